"""Frames as indices of a code book, and back.

B batch, F frames, C channels, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wmdsl.blocks.autoencoder import Autoencoder


class Quantizer(nn.Module):
    """Frames [B, F, C, H, W] <-> indices [B, F * cells] of codes of root mean square 1.

    The latents of a frame are averaged to `grid` cells; each cell becomes its nearest code.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        widths: tuple[int, ...],
        strides: tuple[tuple[int, int, int], ...],
        codes: int,
        latent: tuple[int, int],
        grid: tuple[int, int],
    ):
        super().__init__()
        self.coder = Autoencoder(inputs, channels, widths, strides, reach=1, group=1)
        self.codes = nn.Parameter(torch.randn(codes, channels))
        self.latent = latent
        self.grid = grid

    def unit_codes(self) -> Tensor:
        """Codes of root mean square 1 [codes, channels]."""
        return functional.normalize(self.codes, dim=1) * self.codes.shape[1] ** 0.5

    def encode(self, x_BFCHW: Tensor) -> Tensor:
        """Frames -> indices."""
        latents = self.coder.encode(x_BFCHW).flatten(0, 1)
        cells = functional.adaptive_avg_pool2d(latents, self.grid).flatten(2).transpose(1, 2)
        index = (cells @ self.unit_codes().T).argmax(dim=2)
        return index.unflatten(0, (len(x_BFCHW), -1)).flatten(1)

    def decode(self, index_BT: Tensor) -> Tensor:
        """Indices -> frames."""
        cells = self.unit_codes()[index_BT].unflatten(1, (-1, *self.grid))
        frames = cells.shape[1]
        maps = functional.interpolate(cells.flatten(0, 1).permute(0, 3, 1, 2), self.latent)
        return self.coder.decode(maps.unflatten(0, (-1, frames)), frames)
