"""Image and video encoders of transformers behind the call of `FrameEncoder`.

B batch, F frames, C channels, T groups of frames, W width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from wmdsl.blocks.autoencoder import full_groups
from wmdsl.check.model import Codec
from wmdsl.weights import errors
from wmdsl.weights.library import Pretrained, model_of, size
from wmdsl.weights.named import Named
from wmdsl.weights.pixels import pixels_of
from wmdsl.weights.report import PartReport
from wmdsl.weights.source import Checkpoint

CLASSES = {
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "dinov2": "Dinov2Model",
    "vit": "ViTModel",
    "vit_mae": "ViTMAEModel",
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "vjepa2": "VJEPA2Model",
}
UNSTRETCHED = ("dinov2", "vjepa2")  # the others are told to interpolate their places


class PretrainedEncoder(Pretrained):
    """Frames [B, F, C, H, W] in -1..1 -> maps [B, T, W, rows, columns]; other tokens are left out.

    With `alone` each group of `depth` frames is encoded by itself.
    """

    def __init__(
        self,
        model: nn.Module,
        depth: int,
        grid: tuple[int, int],
        alone: bool,
        mean: Tensor,
        deviation: Tensor,
        options: dict[str, bool],
    ):
        super().__init__()
        self.model = model
        self.depth = depth
        self.grid = grid
        self.alone = alone
        self.options = options
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("deviation", deviation[:, None, None])

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        pixels = ((x_BFCHW + 1) / 2 - self.mean) / self.deviation
        x = full_groups(pixels, self.depth)
        groups = x.shape[1] // self.depth
        clips = x.unflatten(1, (groups, self.depth)).flatten(0, 1) if self.alone else x
        seen = clips if self.depth > 1 else clips.flatten(0, 1)
        tokens = self.model(seen, **self.options, **self._order(seen)).last_hidden_state
        cells = self.grid[0] * self.grid[1]
        each = cells * clips.shape[1] // self.depth if self.depth > 1 else cells
        maps = tokens[:, -each:].reshape(len(x), groups, *self.grid, -1)
        return maps.permute(0, 1, 4, 2, 3)

    def _order(self, seen: Tensor) -> dict[str, Tensor]:
        """A masked auto-encoder orders patches by noise; rising numbers leave them in place."""
        if type(self.model).__name__ != "ViTMAEModel":
            return {}
        order = torch.arange(self.grid[0] * self.grid[1], device=seen.device)
        return {"noise": order.to(seen.dtype).expand(len(seen), -1)}


def load(
    named: Named, checkpoint: Checkpoint, frame: tuple[int, int]
) -> tuple[Pretrained, PartReport]:
    """The encoder of a `vit` for frames of that size; WeightsError where sizes differ."""
    model, report = model_of(named, checkpoint, "transformers", CLASSES)
    codec, config = named.part, model.config
    depth, *cell = codec.attributes["compress"]
    patch = size(config, "patch_size")
    patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
    grid = frame[0] // patch[0], frame[1] // patch[1]
    tubelet = size(config, "tubelet_size") or 1
    pairs = {"channels": (codec.attributes["channels"], config.hidden_size)}
    if codec.attributes["tokens"] is None:
        pairs["compress"] = (depth, *cell), (tubelet, *patch)
    else:
        pairs["compressed frames"] = depth, tubelet
    if checkpoint.kind == "vjepa2":
        pairs["frame"] = (frame, (config.crop_size, config.crop_size))
    wrong = [f"{name} {ours} in the spec, {theirs} in it" for name, (ours, theirs) in pairs.items()
             if ours != theirs]  # fmt: skip
    wrong += too_many(codec, grid)
    if wrong:
        raise errors.misfit(named, wrong)
    options = {} if checkpoint.kind in UNSTRETCHED else {"interpolate_pos_encoding": True}
    if checkpoint.kind == "vjepa2":
        options = {"skip_predictor": True}
    if checkpoint.kind == "vit_mae":
        config.mask_ratio = 0.0
    mean, deviation, note = pixels_of(checkpoint)
    module = PretrainedEncoder(
        model, depth, grid, codec.scope == "frame", mean, deviation, options
    )
    return module, replace(report, notes=(note, *averaged(codec)))


def too_many(codec: Codec, grid: tuple[int, int]) -> list[str]:
    """What is wrong where a frame has fewer cells than the spec wants tokens of it."""
    tokens, cells = codec.attributes["tokens"] or 0, grid[0] * grid[1]
    if tokens <= cells:
        return []
    return [f"tokens {tokens} in the spec, {cells} cells a frame in it"]


def averaged(codec: Codec) -> tuple[str, ...]:
    """What becomes of its cells where the spec counts its tokens."""
    tokens = codec.attributes["tokens"]
    if tokens is None:
        return ()
    return (f"its patches are averaged to {tokens} tokens a frame; class tokens are left out",)
