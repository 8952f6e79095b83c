"""Numbers as bins. B batch, N steps, C numbers per step; one token per number."""

from __future__ import annotations

from torch import Tensor


def to_bins(x_BNC: Tensor, bins: int, low: float, high: float) -> Tensor:
    """Numbers -> indices [B, N * C] of equal bins between `low` and `high`; ends are clamped."""
    index = ((x_BNC - low) * (bins / (high - low))).floor().clamp(0, bins - 1)
    return index.long().flatten(1)


def from_bins(index_BT: Tensor, size: int, bins: int, low: float, high: float) -> Tensor:
    """Indices -> the middles of their bins [B, N, size]."""
    middles = low + (index_BT + 0.5) * ((high - low) / bins)
    return middles.unflatten(1, (-1, size))
