"""Several views through one codec. B batch, F frames, V views, T tokens, C features."""

from __future__ import annotations

from torch import Tensor


def each_view(x_BFVCHW: Tensor) -> Tensor:
    """Clips of single views [B * V, F, C, H, W]."""
    return x_BFVCHW.transpose(1, 2).flatten(0, 1)


def views_as_tokens(x: Tensor, views: int, frames: int) -> Tensor:
    """Features of single views [B * V, F * T, C] -> [B, F * V * T, C], a frame view by view."""
    x_BVFTC = x.unflatten(0, (-1, views)).unflatten(2, (frames, -1))
    return x_BVFTC.transpose(1, 2).flatten(1, 3)


def views_as_channels(x: Tensor, views: int, frames: int) -> Tensor:
    """Features of single views [B * V, F * T, C] -> [B, F * T, V * C], side by side."""
    return x.unflatten(0, (-1, views)).transpose(1, 2).flatten(2)
