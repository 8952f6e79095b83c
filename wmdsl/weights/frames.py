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

CLASSES = {
    name: name
    for name in (
        "AutoencoderKLWan",
        "AutoencoderKLLTXVideo",
        "AutoencoderKLCogVideoX",
        "AutoencoderKL",
        "AutoencoderKLTemporalDecoder",
    )
}
VIDEO = ("AutoencoderKLWan", "AutoencoderKLLTXVideo", "AutoencoderKLCogVideoX")  # causal


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
        return (self._latents(x_BFCHW) - self.mean) / self.deviation

    def _latents(self, x_BFCHW: Tensor) -> Tensor:
        frames = x_BFCHW.shape[1]
        lone = frames == 1 or not self.alone and frames % self.depth == 1
        if self.depth > 1 and self.group == self.depth and lone:
            return self._clip(x_BFCHW)
        x = full_groups(x_BFCHW, self.group)
        if self.depth == 1:
            return self._stills(x)
        if not self.alone:
            return self._groups(x)
        each = x.unflatten(1, (-1, self.depth))
        return self._groups(each.flatten(0, 1)).unflatten(0, each.shape[:2]).flatten(1, 2)

    def _groups(self, x_BFCHW: Tensor) -> Tensor:
        """A latent for each group; a copy takes the place of the library's first lone frame."""
        return self._clip(torch.cat([x_BFCHW[:, :1], x_BFCHW], dim=1))[:, 1:]

    def _clip(self, x_BFCHW: Tensor) -> Tensor:
        return self.model.encode(x_BFCHW.transpose(1, 2)).latent_dist.mode().transpose(1, 2)

    def _stills(self, x_BFCHW: Tensor) -> Tensor:
        if self._takes_clips:
            each = self._clip(x_BFCHW.flatten(0, 1)[:, None])
            return each.unflatten(0, x_BFCHW.shape[:2])[:, :, 0]
        latents = self.model.encode(x_BFCHW.flatten(0, 1)).latent_dist.mode()
        return latents.unflatten(0, x_BFCHW.shape[:2])

    @property
    def _takes_clips(self) -> bool:
        return type(self.model).__name__ in VIDEO

    def decode(self, latents_BTCHW: Tensor, frames: int) -> Tensor:
        """Latents -> the last `frames` of the frames that they stand for."""
        z = latents_BTCHW * self.deviation + self.mean
        if self.depth == 1:
            return self._frames(z)[:, -frames:]
        if self.alone and z.shape[1] > 1:
            each = torch.cat([z[:, :, None], z[:, :, None]], dim=2).flatten(0, 1)
            decoded = self._decoded(each)[:, 1:].unflatten(0, z.shape[:2])
            return decoded.flatten(1, 2)[:, -frames:]
        if frames > 1 + (z.shape[1] - 1) * self.depth:
            z = torch.cat([z[:, :1], z], dim=1)
        return self._decoded(z)[:, -frames:]

    def _decoded(self, z_BTCHW: Tensor) -> Tensor:
        return self.model.decode(z_BTCHW.transpose(1, 2)).sample.transpose(1, 2)

    def _frames(self, z_BTCHW: Tensor) -> Tensor:
        """Frames decoded one by one, or together where the library's decoder mixes them."""
        if self._takes_clips:
            each = self._decoded(z_BTCHW.flatten(0, 1)[:, None])
            return each.unflatten(0, z_BTCHW.shape[:2])[:, :, 0]
        clip = type(self.model).__name__ == "AutoencoderKLTemporalDecoder"
        together = {"num_frames": z_BTCHW.shape[1]} if clip else {}
        decoded = self.model.decode(z_BTCHW.flatten(0, 1), **together).sample
        return decoded.unflatten(0, z_BTCHW.shape[:2])


def _statistics(model: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the latents [C, 1, 1], as the library's pipelines use them."""
    config = model.config
    scale = size(config, "scaling_factor") or 1.0
    if size(config, "latents_mean") is not None:
        found = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
    elif type(model).__name__ == "AutoencoderKLLTXVideo":
        found = model.latents_mean.clone(), model.latents_std / scale
    else:
        found = torch.tensor([size(config, "shift_factor") or 0.0]), torch.tensor([1 / scale])
    return found[0][:, None, None], found[1][:, None, None]


def load(named: Named, checkpoint: Checkpoint) -> tuple[Pretrained, PartReport]:
    """The auto-encoder of a `vae`; WeightsError where its sizes are not those of the spec."""
    model, report = model_of(named, checkpoint, "diffusers", CLASSES)
    codec: Codec = named.part
    if size(model.config, "timestep_conditioning"):
        why = "its decoder is told a time, which no spec gives"
        raise errors.absent(named, checkpoint.folder, why)
    depth, *cell = codec.attributes["compress"]
    alone = codec.scope != "prefix"
    channels, (deep, *side) = _sizes(model)
    pairs = {
        "channels": (codec.attributes["channels"], channels),
        # A video auto-encoder encodes a still as a clip of one frame.
        "compress": (_dims(depth, cell), _dims(1 if alone and depth == 1 else deep, side)),
    }
    wrong = [f"{name} {ours} in the spec, {theirs} in it" for name, (ours, theirs) in pairs.items()
             if ours != theirs]  # fmt: skip
    if wrong:
        raise errors.misfit(named, wrong)
    group = depth * codec.attributes["patch"][0]
    module = PretrainedAutoencoder(model, depth, group, alone)
    return module, replace(report, notes=("latents are normalised by the checkpoint's statistics",))


def _dims(depth: int, cell: list[int]) -> str:
    return "x".join(map(str, (depth, *cell)))


def _sizes(model: Any) -> tuple[int, tuple[int, int, int]]:
    """Channels of the latents, and the frames and cells of one."""
    config, kind = model.config, type(model).__name__
    if kind not in VIDEO:
        side = 2 ** (len(config.block_out_channels) - 1)
        return config.latent_channels, (1, side, side)
    if kind == "AutoencoderKLLTXVideo":
        side = model.spatial_compression_ratio
        return config.latent_channels, (model.temporal_compression_ratio, side, side)
    if kind == "AutoencoderKLCogVideoX":
        side = 2 ** (len(config.block_out_channels) - 1)
        return config.latent_channels, (int(config.temporal_compression_ratio), side, side)
    side = 2 ** (len(config.dim_mult) - 1) * (config.patch_size or 1)
    return config.z_dim, (2 ** sum(config.temperal_downsample), side, side)
