"""Convolutional encoders of frames.

B batch, F frames, C channels, T tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ConvGrid(nn.Module):
    """Frames [B, F, C, H, W] -> one token per cell of the last map [B, F * cells, channels[-1]]."""

    def __init__(self, inputs: int, channels: tuple[int, ...], strides: tuple[int, ...]):
        super().__init__()
        layers = []
        for before, after, stride in zip((inputs, *channels[:-1]), channels, strides, strict=True):
            kernel = 3 if stride < 3 else 2 * stride
            layers.append(nn.Conv2d(before, after, kernel, stride, (kernel - stride + 1) // 2))
            layers.append(nn.GroupNorm(math.gcd(8, after), after))
            layers.append(nn.SiLU())
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def maps(self, x_BFCHW: Tensor) -> Tensor:
        """The last map of every frame [B * F, C, rows, columns]."""
        frames = x_BFCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.layers(frames)

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        cells = self.maps(x_BFCHW).flatten(2).transpose(1, 2)
        return cells.unflatten(0, (x_BFCHW.shape[0], -1)).flatten(1, 2)


class ConvKeypoints(ConvGrid):
    """Frames -> `tokens` tokens per frame, from key points and the flattened half-size map.

    A key point is the mean place, in -1..1, under the softmax of its map; `shrunk` are the rows
    and columns of the half-size map.
    """

    def __init__(
        self,
        inputs: int,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        shrunk: tuple[int, int],
        points: int,
        tokens: int,
    ):
        super().__init__(inputs, channels, strides)
        self.tokens = tokens
        self.points = nn.Conv2d(channels[-1], points, kernel_size=1)
        self.shrink = nn.Sequential(
            nn.Conv2d(channels[-1], 16, kernel_size=3, stride=2, padding=1),
            nn.GroupNorm(8, 16),
            nn.SiLU(),
        )
        read = 2 * points + 16 * math.prod(shrunk)
        self.outward = nn.Linear(read, tokens * channels[-1])

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        maps = self.maps(x_BFCHW)
        points = self.points(maps)
        weight = points.flatten(2).softmax(dim=-1).view_as(points)
        rows = torch.linspace(-1, 1, maps.shape[2], dtype=maps.dtype, device=maps.device)
        columns = torch.linspace(-1, 1, maps.shape[3], dtype=maps.dtype, device=maps.device)
        row = (weight.sum(dim=3) * rows).sum(dim=2)
        column = (weight.sum(dim=2) * columns).sum(dim=2)
        read = torch.cat([row, column, self.shrink(maps).flatten(1)], dim=1)
        tokens = self.outward(read)
        return tokens.view(x_BFCHW.shape[0], x_BFCHW.shape[1] * self.tokens, -1)
