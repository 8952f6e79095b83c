"""Encoders of frames that are called in ways of their own, behind the call of `FrameEncoder`.

The towers of Qwen's models of vision and language merge cells of patches; SAM's encoder takes a
square of one size.  Each frame is a still.
B batch, F frames, C channels, N stills, T cells, W width.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional

from wmdsl.weights import errors
from wmdsl.weights.features import averaged, too_many
from wmdsl.weights.library import Pretrained, imported, model_of
from wmdsl.weights.named import Named
from wmdsl.weights.pieces import config_of, piece_of
from wmdsl.weights.pixels import pixels_of
from wmdsl.weights.report import PartReport
from wmdsl.weights.source import Checkpoint

QWEN = {
    "qwen2_vl": "Qwen2VisionTransformerPretrainedModel",
    "qwen2_5_vl": "Qwen2_5_VisionTransformerPretrainedModel",
    "qwen3_vl": "Qwen3VLVisionModel",
}
SAM = {"sam": "SamVisionModel", "sam_vision_model": "SamVisionModel"}
PREFIXES = ("model.visual.", "visual.")


class Tower(Pretrained):
    """Stills [N, C, H, W], normalised as a checkpoint wants them, through `seen`."""

    def __init__(self, model: nn.Module, mean: Tensor, deviation: Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("deviation", deviation[:, None, None])

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        """Frames [B, F, C, H, W] in -1..1 -> maps [B, F, W, rows, columns]."""
        maps = self.seen(x_BFCHW.flatten(0, 1))
        return maps.unflatten(0, x_BFCHW.shape[:2])

    def normal(self, x_NCHW: Tensor) -> Tensor:
        """Pixels in -1..1 -> those that the checkpoint was trained on."""
        return ((x_NCHW + 1) / 2 - self.mean) / self.deviation


class QwenTower(Tower):
    """What a language model of Qwen's reads of an image: merged cells, `grid` of them."""

    def __init__(
        self, model: nn.Module, grid: tuple[int, int], merge: int, mean: Tensor, deviation: Tensor
    ):
        super().__init__(model, mean, deviation)
        self.grid = grid
        self.merge = merge
        self.patch = model.config.patch_size
        self.depth = model.config.temporal_patch_size

    def seen(self, x_NCHW: Tensor) -> Tensor:
        """Maps [N, W, rows, columns]."""
        rows, columns = (self.merge * count for count in self.grid)
        grid = torch.tensor([[1, rows, columns]], device=x_NCHW.device).expand(len(x_NCHW), 3)
        merged = self.model(self._patches(self.normal(x_NCHW)), grid_thw=grid).pooler_output
        return merged.unflatten(0, (len(x_NCHW), *self.grid)).permute(0, 3, 1, 2)

    def _patches(self, x_NCHW: Tensor) -> Tensor:
        """Patches [N * T, C * depth * patch * patch], those that are merged side by side."""
        sides = [size for cells in self.grid for size in (cells, self.merge, self.patch)]
        cells = x_NCHW.reshape(*x_NCHW.shape[:2], *sides).permute(0, 2, 5, 3, 6, 1, 4, 7)
        still = cells.unsqueeze(6).expand(*([-1] * 6), self.depth, -1, -1)
        return still.flatten(5).flatten(0, 4)


class SamEncoder(Tower):
    """Frames enlarged until the longer side fills SAM's square; the empty rest is cut off again."""

    def seen(self, x_NCHW: Tensor) -> Tensor:
        """Maps [N, W, rows, columns]."""
        side, patch = self.model.config.image_size, self.model.config.patch_size
        longest = max(x_NCHW.shape[2:])
        height, width = size = [round(length * side / longest) for length in x_NCHW.shape[2:]]
        large = functional.interpolate(x_NCHW, size, mode="bilinear", antialias=True)
        square = functional.pad(self.normal(large), (0, side - width, 0, side - height))
        maps = self.model(square).last_hidden_state
        return maps[:, :, : ceil(height / patch), : ceil(width / patch)]


def load(
    named: Named, checkpoint: Checkpoint, frame: tuple[int, int]
) -> tuple[Pretrained, PartReport]:
    """The tower of a `vit` for frames of that size; WeightsError where sizes differ."""
    if checkpoint.kind in SAM:
        return _load_sam(named, checkpoint, frame)
    config = config_of(named, checkpoint)
    kind = checkpoint.kind
    library = imported(f"transformers.models.{kind}.modeling_{kind}")
    model = getattr(library, QWEN[kind])(config.vision_config)
    sizes = config.vision_config
    merge, width = sizes.spatial_merge_size, _width(sizes)
    cell = sizes.patch_size * merge
    grid = frame[0] // cell, frame[1] // cell
    _check(named, frame, cell, grid, width)
    report = piece_of(named, checkpoint, model, PREFIXES)
    mean, deviation, note = pixels_of(checkpoint)
    notes = [note, f"cells of {cell} pixels, each frame a still", *averaged(named.part)]
    if kind == "qwen3_vl":
        notes.append("features of earlier layers, which its language model adds, are left out")
    module = QwenTower(model.eval(), grid, merge, mean, deviation)
    return module, replace(report, notes=tuple(notes))


def _width(config: object) -> int:
    """The width that the language model reads."""
    return getattr(config, "out_hidden_size", None) or config.hidden_size


def _load_sam(
    named: Named, checkpoint: Checkpoint, frame: tuple[int, int]
) -> tuple[Pretrained, PartReport]:
    model, report = model_of(named, checkpoint, "transformers", SAM)
    side, patch = model.config.image_size, model.config.patch_size
    grid = tuple(ceil(round(length * side / max(frame)) / patch) for length in frame)
    _check(named, grid, 1, grid, model.config.output_channels)
    mean, deviation, note = pixels_of(checkpoint)
    notes = (note, f"frames are enlarged to {side} pixels", *averaged(named.part))
    return SamEncoder(model, mean, deviation), replace(report, notes=notes)


def _check(
    named: Named, frame: tuple[int, int], cell: int, grid: tuple[int, int], width: int
) -> None:
    """Sizes of the spec against those of the checkpoint."""
    codec = named.part
    depth, *declared = codec.attributes["compress"]
    wrong = too_many(codec, grid)
    if codec.attributes["channels"] != width:
        wrong.append(f"channels {codec.attributes['channels']} in the spec, {width} in it")
    if depth != 1:
        wrong.append(f"{depth} frames a cell in the spec, 1 in it")
    if any(length % cell for length in frame):
        wrong.append(f"frames of {frame[0]}x{frame[1]} in the spec, cells of {cell} in it")
    if codec.attributes["tokens"] is None and (cell, cell) != tuple(declared):
        wrong.append("no tokens in the spec, which its cells need")
    if wrong:
        raise errors.misfit(named, wrong)
