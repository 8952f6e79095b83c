"""Video and image auto-encoders of diffusers behind the methods of `Autoencoder`.

B batch, F frames, C channels, T latent frames.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from wmdsl.blocks.autoencoder import full_groups
from wmdsl.check.model import Codec
from wmdsl.weights import errors
from wmdsl.weights.library import Pretrained, model_of, size
from wmdsl.weights.named import Named
from wmdsl.weights.report import PartReport
from wmdsl.weights.source import Checkpoint

CLASSES = {name: name for name in ("AutoencoderKLWan", "AutoencoderKL")}


class PretrainedAutoencoder(Pretrained):
    """Frames [B, F, C, H, W] in -1..1 <-> latents [B, T, C, rows, columns], mean 0 and deviation 1.

    `depth` frames make a latent frame, the first frame alone another; `group` of them, each alone
    where `alone`, make a group of tokens, as `Autoencoder` fills them.
    """

    def __init__(self, model: nn.Module, depth: int, group: int, alone: bool):
        super().__init__()
        self.model = model
        self.depth = depth
        self.group = group
        self.alone = alone
        mean, deviation = _statistics(model)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def encode(self, x_BFCHW: Tensor) -> Tensor:
        """Frames -> latents: the mean of their distribution, normalised."""
        lone = x_BFCHW.shape[1] == 1 or not self.alone and x_BFCHW.shape[1] % self.depth == 1
        if self.depth > 1 and self.group == self.depth and lone:
            return self._latents(x_BFCHW)
        x = full_groups(x_BFCHW, self.group)
        if self.depth == 1:
            return self._latents(x)
        if not self.alone:
            return self._groups(x)
        each = x.unflatten(1, (-1, self.depth))
        return self._groups(each.flatten(0, 1)).unflatten(0, each.shape[:2]).flatten(1, 2)

    def _groups(self, x_BFCHW: Tensor) -> Tensor:
        """A latent for each group; a copy takes the place of the library's first lone frame."""
        return self._latents(torch.cat([x_BFCHW[:, :1], x_BFCHW], dim=1))[:, 1:]

    def _latents(self, x_BFCHW: Tensor) -> Tensor:
        if self.depth == 1:
            latents = self.model.encode(x_BFCHW.flatten(0, 1)).latent_dist.mode()
            latents = latents.unflatten(0, x_BFCHW.shape[:2])
        else:
            latents = self.model.encode(x_BFCHW.transpose(1, 2)).latent_dist.mode().transpose(1, 2)
        return (latents - self.mean) / self.deviation

    def decode(self, latents_BTCHW: Tensor, frames: int) -> Tensor:
        """Latents -> the last `frames` of the frames that they stand for."""
        z = latents_BTCHW * self.deviation + self.mean
        if self.depth == 1:
            decoded = self.model.decode(z.flatten(0, 1)).sample.unflatten(0, z.shape[:2])
            return decoded[:, -frames:]
        if self.alone and z.shape[1] > 1:
            each = torch.cat([z[:, :, None], z[:, :, None]], dim=2).flatten(0, 1)
            decoded = self._decoded(each)[:, 1:].unflatten(0, z.shape[:2])
            return decoded.flatten(1, 2)[:, -frames:]
        if frames > 1 + (z.shape[1] - 1) * self.depth:
            z = torch.cat([z[:, :1], z], dim=1)
        return self._decoded(z)[:, -frames:]

    def _decoded(self, z_BTCHW: Tensor) -> Tensor:
        return self.model.decode(z_BTCHW.transpose(1, 2)).sample.transpose(1, 2)


def _statistics(model: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the latents [C, 1, 1], as the library's pipelines use them."""
    config = model.config
    if size(config, "latents_mean") is not None:
        found = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
    else:
        shift, scale = size(config, "shift_factor") or 0.0, size(config, "scaling_factor") or 1.0
        found = torch.tensor([shift]), torch.tensor([1 / scale])
    return found[0][:, None, None], found[1][:, None, None]


def load(named: Named, checkpoint: Checkpoint) -> tuple[Pretrained, PartReport]:
    """The auto-encoder of a `vae`; WeightsError where its sizes are not those of the spec."""
    model, report = model_of(named, checkpoint, "diffusers", CLASSES)
    codec: Codec = named.part
    depth, *cell = codec.attributes["compress"]
    channels, found = _sizes(model)
    pairs = {
        "channels": (codec.attributes["channels"], channels),
        "compress": ("x".join(map(str, (depth, *cell))), "x".join(map(str, found))),
    }
    wrong = [f"{name} {ours} in the spec, {theirs} in it" for name, (ours, theirs) in pairs.items()
             if ours != theirs]  # fmt: skip
    if wrong:
        raise errors.misfit(named, wrong)
    group = depth * codec.attributes["patch"][0]
    module = PretrainedAutoencoder(model, depth, group, codec.scope != "prefix")
    return module, replace(report, notes=("latents are normalised by the checkpoint's statistics",))


def _sizes(model: Any) -> tuple[int, tuple[int, int, int]]:
    """Channels of the latents, and the frames and cells of one."""
    config = model.config
    if type(model).__name__ == "AutoencoderKL":
        side = 2 ** (len(config.block_out_channels) - 1)
        return config.latent_channels, (1, side, side)
    side = 2 ** (len(config.dim_mult) - 1) * (config.patch_size or 1)
    return config.z_dim, (2 ** sum(config.temperal_downsample), side, side)
