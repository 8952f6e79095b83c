"""Rotary positions: queries and keys are turned by angles that depend on the place of a token.

B batch, T tokens, H heads, K head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wmdsl_kernels import rotated_heads


def angles_1d(count: int, head_dim: int) -> Tensor:
    """Angles [T, K / 2] of places 0, 1, 2, ..."""
    rates = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    return torch.outer(torch.arange(count), rates)


def line(count: int) -> Tensor:
    """Places (index, 0, 0) of tokens in a row [T, 3]."""
    return torch.stack([torch.arange(count), torch.zeros(count), torch.zeros(count)], dim=1)


def cells(first: int, frames: int, rows: int, columns: int) -> Tensor:
    """Places (frame, row, column) of the cells of frames [T, 3], counted from frame `first`."""
    sides = torch.arange(first, first + frames), torch.arange(rows), torch.arange(columns)
    return torch.cartesian_prod(*sides)


def leads(first: int, frames: int, count: int) -> Tensor:
    """Places (frame, 0, 0) of so many tokens in front of each frame [T, 3]."""
    places = torch.arange(first, first + frames).repeat_interleave(count)
    return torch.stack([places, torch.zeros_like(places), torch.zeros_like(places)], dim=1)


def moments(first: float, step: float, frames: int, count: int) -> Tensor:
    """Places (time, 0, 0) of so many tokens at each of even times [T, 3], in frames of a video."""
    times = (first + step * torch.arange(frames)).repeat_interleave(count)
    return torch.stack([times, torch.zeros_like(times), torch.zeros_like(times)], dim=1)


def angles_3d(places: list[Tensor], head_dim: int) -> Tensor:
    """Angles [T, K / 2] of places [T, 3]; each axis has a third of them, the first one the rest."""
    places_T3 = torch.cat([part.float() for part in places])
    side = head_dim // 6
    angles = []
    for axis, count in enumerate((head_dim // 2 - 2 * side, side, side)):
        rates = 10000.0 ** (-torch.arange(count) / count)
        angles.append(torch.outer(places_T3[:, axis], rates))
    return torch.cat(angles, dim=1)


def rotated(x_BTHK: Tensor, angles_TK: Tensor) -> Tensor:
    """The pairs (k, k + K / 2) of each head, turned by the angle of the token."""
    return rotated_heads(x_BTHK, angles_TK.cos(), angles_TK.sin())
