"""Video U-Net: maps of frames through convolutions and attention, down to few cells and up again.

B batch, F frames, W width, H rows, V columns, T tokens, G videos (one for each token group).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wmdsl.blocks.heads import Heads
from wmdsl_kernels import attention


class Videos(NamedTuple):
    """(frames, rows, columns) of the tokens of each video, and the videos that each one sees."""

    shapes: tuple[tuple[int, int, int], ...]
    sees: tuple[tuple[int, ...], ...]


def to_maps(x_BTW: Tensor, videos: Videos) -> list[Tensor]:
    """Tokens of all videos -> a map [B, F, W, H, V] of each."""
    parts = x_BTW.split([math.prod(shape) for shape in videos.shapes], dim=1)
    shaped = zip(parts, videos.shapes, strict=True)
    return [part.unflatten(1, shape).movedim(-1, 2) for part, shape in shaped]


def to_tokens(maps: list[Tensor], videos: Videos) -> Tensor:
    """Maps, enlarged to the cells of their tokens [B, T, W]."""
    shaped = zip(maps, videos.shapes, strict=True)
    return torch.cat([flat(resized(x, shape[1:])) for x, shape in shaped], dim=1)


def resized(x_BFWHV: Tensor, size: tuple[int, int]) -> Tensor:
    """Every frame at another size: each cell takes the nearest one."""
    frames = functional.interpolate(x_BFWHV.flatten(0, 1), size, mode="nearest-exact")
    return frames.unflatten(0, x_BFWHV.shape[:2])


def flat(x_BFWHV: Tensor) -> Tensor:
    """The cells of all frames as tokens [B, F H V, W]."""
    return x_BFWHV.movedim(2, -1).flatten(1, 3)


def over_maps(reader: nn.Module, maps: list[Tensor], source_BSC: Tensor) -> list[Tensor]:
    """The cells of every video read a source."""
    read = (reader(flat(x), source_BSC) for x in maps)
    sizes = ((x.shape[1], *x.shape[3:]) for x in maps)
    return [x.unflatten(1, size).movedim(-1, 2) for x, size in zip(read, sizes, strict=True)]


class MapResidual(nn.Module):
    """Two convolutions of each frame, scaled and shifted by the code of the video between them."""

    def __init__(self, width: int):
        super().__init__()
        self.enter_norm = nn.GroupNorm(math.gcd(8, width), width)
        self.enter = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.leave_norm = nn.GroupNorm(math.gcd(8, width), width)
        self.leave = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.numbers = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x_BFWHV: Tensor, code_BW: Tensor) -> Tensor:
        numbers = self.numbers(functional.silu(code_BW)).repeat_interleave(x_BFWHV.shape[1], dim=0)
        scale, shift = numbers[..., None, None].chunk(2, dim=1)
        change = self.enter(functional.silu(self.enter_norm(x_BFWHV.flatten(0, 1))))
        change = self.leave(functional.silu(self.leave_norm(change) * (1 + scale) + shift))
        return x_BFWHV + change.unflatten(0, x_BFWHV.shape[:2])


class OverTime(nn.Module):
    """A convolution of each cell over three frames, added to it."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(8, width), width)
        self.layer = nn.Conv3d(width, width, kernel_size=(3, 1, 1), padding=(1, 0, 0))
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x_BFWHV: Tensor) -> Tensor:
        change = self.layer(functional.silu(self.norm(x_BFWHV.transpose(1, 2))))
        return x_BFWHV + change.transpose(1, 2)


class UNetBlock(nn.Module):
    """Convolutions, then attention among the cells of a frame, then of a cell over the frames."""

    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__()
        self.residual = MapResidual(width)
        self.over_time = OverTime(width)
        self.cells_norm = nn.LayerNorm(width)
        self.cells = Heads(width, heads, heads, head_dim)
        self.frames_norm = nn.LayerNorm(width)
        self.frames = Heads(width, heads, heads, head_dim)

    def enter(self, maps: list[Tensor], skips: list[list[Tensor]]) -> list[Tensor]:
        """What comes in."""
        return maps

    def forward(self, maps: list[Tensor], code_BGW: Tensor, videos: Videos) -> list[Tensor]:
        codes = code_BGW.unbind(dim=1)
        coded = zip(maps, codes, strict=True)
        maps = [self.over_time(self.residual(x, code)) for x, code in coded]
        return self.among_frames([self.among_cells(x) for x in maps], videos)

    def among_cells(self, x_BFWHV: Tensor) -> Tensor:
        """Attention of the cells of each frame."""
        x = x_BFWHV.movedim(2, -1).flatten(2, 3).flatten(0, 1)
        x = x + self.cells.merge(attention(*self.cells.project(self.cells_norm(x))))
        x = x.unflatten(0, x_BFWHV.shape[:2])
        return x.unflatten(2, x_BFWHV.shape[3:]).movedim(-1, 2)

    def among_frames(self, maps: list[Tensor], videos: Videos) -> list[Tensor]:
        """Attention of each cell over the frames of all videos that its own sees."""
        rows = [x.permute(0, 3, 4, 1, 2).flatten(0, 2) for x in maps]
        queries, keys, values = zip(
            *(self.frames.project(self.frames_norm(row)) for row in rows), strict=True
        )
        changed = []
        for own, (x, row, seen) in enumerate(zip(maps, rows, videos.sees, strict=True)):
            key = torch.cat([keys[other] for other in seen], dim=1)
            value = torch.cat([values[other] for other in seen], dim=1)
            row = row + self.frames.merge(attention(queries[own], key, value))
            row = row.unflatten(0, (x.shape[0], *x.shape[3:]))
            changed.append(row.permute(0, 3, 4, 1, 2))
        return changed

    def leave(self, maps: list[Tensor], skips: list[list[Tensor]]) -> None:
        """What goes out is kept where a later block takes it up."""


class DownBlock(UNetBlock):
    """A block on the way down; with stride 2 it halves rows and columns."""

    def __init__(self, width: int, heads: int, head_dim: int, stride: int):
        super().__init__(width, heads, head_dim)
        self.inward = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1)

    def enter(self, maps: list[Tensor], skips: list[list[Tensor]]) -> list[Tensor]:
        return [self.inward(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for x in maps]

    def leave(self, maps: list[Tensor], skips: list[list[Tensor]]) -> None:
        skips.append(maps)


class UpBlock(UNetBlock):
    """A block on the way up; it takes up the last maps kept on the way down, at their size."""

    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__(width, heads, head_dim)
        self.inward = nn.Conv2d(2 * width, width, kernel_size=3, padding=1)

    def enter(self, maps: list[Tensor], skips: list[list[Tensor]]) -> list[Tensor]:
        pairs = zip(maps, skips.pop(), strict=True)
        both = [torch.cat([resized(x, skip.shape[3:]), skip], dim=2) for x, skip in pairs]
        return [self.inward(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for x in both]


def unet_blocks(
    width: int, heads: int, head_dim: int, strides: tuple[int, ...], middle: int
) -> nn.ModuleList:
    """Blocks down with these strides, so many in the middle, and as many up as down."""
    down = [DownBlock(width, heads, head_dim, stride) for stride in strides]
    between = [UNetBlock(width, heads, head_dim) for _ in range(middle)]
    up = [UpBlock(width, heads, head_dim) for _ in strides]
    return nn.ModuleList([*down, *between, *up])
