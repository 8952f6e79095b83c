"""Code books of diffusers and transformers behind the methods of `Quantizer`.

B batch, F frames, C channels, N stills, T tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wmdsl.weights import errors
from wmdsl.weights.library import Pretrained, imported, model_of
from wmdsl.weights.named import Named
from wmdsl.weights.pieces import config_of, piece_of
from wmdsl.weights.pixels import pixels_of
from wmdsl.weights.report import PartReport
from wmdsl.weights.source import Checkpoint

DIFFUSERS = {"VQModel": "VQModel"}
EMU3 = ("emu3", "emu3_vqgan")
PREFIXES = ("model.vqmodel.", "vqmodel.")


class PretrainedCodes(Pretrained):
    """Frames [B, F, C, H, W] in -1..1 <-> indices [B, F * cells] of a code book, each a still."""

    def __init__(self, model: Any, grid: tuple[int, int], mean: Tensor, deviation: Tensor):
        super().__init__()
        self.model = model
        self.grid = grid
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("deviation", deviation[:, None, None])

    def encode(self, x_BFCHW: Tensor) -> Tensor:
        """Frames -> indices."""
        pixels = ((x_BFCHW.flatten(0, 1) + 1) / 2 - self.mean) / self.deviation
        return self.indices(pixels).unflatten(0, x_BFCHW.shape[:2]).flatten(1)

    def decode(self, index_BT: Tensor) -> Tensor:
        """Indices -> frames."""
        cells = index_BT.unflatten(1, (-1, *self.grid))
        pixels = self.stills(cells.flatten(0, 1)) * self.deviation + self.mean
        return (2 * pixels - 1).unflatten(0, cells.shape[:2])


class LatentCodes(PretrainedCodes):
    """Codes of a `VQModel` of diffusers."""

    def indices(self, x_NCHW: Tensor) -> Tensor:
        """Stills -> indices [N, rows, columns]."""
        latents = self.model.encode(x_NCHW).latents
        return self.model.quantize(latents)[2][2].view(len(x_NCHW), *self.grid)

    def stills(self, index: Tensor) -> Tensor:
        """Indices [N, rows, columns] -> stills."""
        codes = self.model.quantize.embedding(index).permute(0, 3, 1, 2)
        spatial = codes if self.model.config.norm_type == "spatial" else None
        return self.model.decoder(self.model.post_quant_conv(codes), spatial)


class EmuCodes(PretrainedCodes):
    """Codes of Emu3's tokeniser of pictures."""

    def indices(self, x_NCHW: Tensor) -> Tensor:
        """Stills -> indices [N, rows, columns]."""
        sizes = torch.tensor(x_NCHW.shape[2:]).expand(len(x_NCHW), 2)
        return torch.stack(self.model.encode(x_NCHW, sizes).image_tokens)

    def stills(self, index: Tensor) -> Tensor:
        """Indices [N, rows, columns] -> stills."""
        return self.model.decode(index)


def load(
    named: Named, checkpoint: Checkpoint, frame: tuple[int, int]
) -> tuple[Pretrained, PartReport]:
    """The code book of a `vq` for frames of that size; WeightsError where sizes differ."""
    if checkpoint.kind in DIFFUSERS:
        kind = LatentCodes
        model, report = model_of(named, checkpoint, "diffusers", DIFFUSERS)
        codes = model.config.num_vq_embeddings
        side = 2 ** (len(model.config.block_out_channels) - 1)
    elif checkpoint.kind in EMU3:
        kind = EmuCodes
        config = config_of(named, checkpoint)
        config = getattr(config, "vq_config", config)
        model = imported("transformers").Emu3VQVAE(config)
        report = piece_of(named, checkpoint, model, PREFIXES)
        codes, side = config.codebook_size, 2 ** (len(config.channel_multiplier) - 1)
    else:
        raise errors.no_loader(named, checkpoint.kind, (*DIFFUSERS, *EMU3))
    grid = frame[0] // side, frame[1] // side
    _check(named, frame, side, grid, codes)
    mean, deviation, note = pixels_of(checkpoint)
    return kind(model.eval(), grid, mean, deviation), replace(report, notes=(note,))


def _check(
    named: Named, frame: tuple[int, int], side: int, grid: tuple[int, int], codes: int
) -> None:
    """Sizes of the spec against those of the checkpoint."""
    pairs = {
        "codes": (named.part.attributes["codes"], codes),
        "tokens": (named.part.attributes["tokens"], grid[0] * grid[1]),
    }
    wrong = [f"{name} {ours} in the spec, {theirs} in it" for name, (ours, theirs) in pairs.items()
             if ours != theirs]  # fmt: skip
    if any(length % side for length in frame):
        wrong.append(f"frames of {frame[0]}x{frame[1]} in the spec, cells of {side} in it")
    if wrong:
        raise errors.misfit(named, wrong)
