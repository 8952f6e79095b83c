"""Frames through a transformer encoder.

B batch, F frames, C channels, T groups of frames, S cells of a group, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wmdsl.blocks.autoencoder import full_groups
from wmdsl.blocks.heads import Heads
from wmdsl.blocks.vit import ViTBlock
from wmdsl_kernels import attention


class FrameEncoder(nn.Module):
    """Frames [B, F, C, H, W] -> maps [B, T, W, rows, columns]; a cell is time x rows x columns.

    With `groups` 1 each group of frames is encoded alone, else all of up to `groups` as one clip.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        cell: tuple[int, int, int],
        grid: tuple[int, int],
        groups: int,
        layers: int,
        heads: int,
    ):
        super().__init__()
        self.cells = nn.Conv3d(inputs, width, cell, cell)
        self.places = nn.Parameter(0.02 * torch.randn(groups, grid[0] * grid[1], width))
        self.blocks = nn.ModuleList(
            [
                ViTBlock(width, Heads(width, heads, heads, width // heads), 4 * width)
                for _ in range(layers)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.grid = grid

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        frames = full_groups(x_BFCHW, self.cells.stride[0]).transpose(1, 2)
        cells_BTSW = self.cells(frames).flatten(3).permute(0, 2, 3, 1)
        count = cells_BTSW.shape[1]
        if len(self.places) == 1:
            x = (cells_BTSW + self.places).flatten(0, 1)
        else:
            x = (cells_BTSW + self.places[:count]).flatten(1, 2)
        for block in self.blocks:
            x = block.feed(block.merge(x, attention(*block.project(x))))
        maps = self.norm(x).reshape(cells_BTSW.shape).transpose(2, 3)
        return maps.unflatten(3, self.grid)


def shared_out(maps_BTWHW: Tensor, tokens: int) -> Tensor:
    """Maps -> `tokens` tokens for each group, the means of runs of cells [B, T * tokens, W]."""
    cells = maps_BTWHW.flatten(3).flatten(0, 1)
    runs = functional.adaptive_avg_pool1d(cells, tokens).transpose(1, 2)
    return runs.unflatten(0, maps_BTWHW.shape[:2]).flatten(1, 2)
