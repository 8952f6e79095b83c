"""Numbers as bins. B batch, N steps, C numbers per step; one token per number."""

from __future__ import annotations

import torch
from torch import Tensor


def to_bins(x_BNC: Tensor, bins: int, low: float, high: float) -> Tensor:
    """Numbers -> indices [B, N * C] of equal bins between `low` and `high`; ends are clamped."""
    index = ((x_BNC - low) * (bins / (high - low))).floor().clamp(0, bins - 1)
    return index.long().flatten(1)


def from_bins(index_BT: Tensor, size: int, bins: int, low: float, high: float) -> Tensor:
    """Indices -> the middles of their bins [B, N, size]."""
    middles = low + (index_BT + 0.5) * ((high - low) / bins)
    return middles.unflatten(1, (-1, size))


def marked(index_BT: Tensor, size: int, bins: int, markers: int) -> Tensor:
    """Indices with marker tokens around each step of `size`, the larger half in front of it."""
    steps = index_BT.unflatten(1, (-1, size))
    marks = torch.arange(bins, bins + markers, device=index_BT.device).expand(*steps.shape[:2], -1)
    behind = markers // 2
    ahead, after = marks.split([markers - behind, behind], dim=2)
    return torch.cat([ahead, steps, after], dim=2).flatten(1)


def unmarked(index_BT: Tensor, size: int, bins: int, markers: int) -> Tensor:
    """The bins between the markers; a marker that stands in their place becomes the last bin."""
    steps = index_BT.unflatten(1, (-1, size + markers))
    ahead = markers - markers // 2
    return steps[:, :, ahead : ahead + size].flatten(1).clamp(max=bins - 1)
