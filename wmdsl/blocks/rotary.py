"""Rotary positions: queries and keys are turned by angles that depend on the place of a token.

B batch, T tokens, H heads, K head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor


def angles_1d(count: int, head_dim: int) -> Tensor:
    """Angles [T, K / 2] of places 0, 1, 2, ..."""
    rates = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    return torch.outer(torch.arange(count), rates)


def angles_3d(places: list[tuple[int, int, int]], head_dim: int) -> Tensor:
    """Angles [T, K / 2] of (frame, row, column); half of the angles tell the frame."""
    side = head_dim // 8
    axes = (head_dim // 2 - 2 * side, side, side)
    rates = [10000.0 ** (-torch.arange(count) / count) for count in axes]
    at = torch.tensor(places)
    return torch.cat([torch.outer(at[:, axis], rates[axis]) for axis in range(3)], dim=1)


def rotated(x_BTHK: Tensor, angles_TK: Tensor) -> Tensor:
    """The pairs (k, k + K / 2) of each head, turned by the angle of the token."""
    left, right = x_BTHK.chunk(2, dim=-1)
    cos, sin = angles_TK.cos()[:, None], angles_TK.sin()[:, None]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
