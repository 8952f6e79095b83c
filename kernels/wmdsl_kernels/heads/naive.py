"""Norm, rotation and joint layout in float64 from the definition.

B batch, T tokens, H query heads, G key heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wmdsl_kernels.heads import Projection


def naive_joint_heads(
    streams: Sequence[Projection],
    heads: int,
    key_heads: int,
    interleaved: bool = False,
    epsilon: float = 1e-6,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query [B, T, H, K], key and value [B, T, G, K] of all streams, float64, differentiable."""
    parts = [naive_heads(stream, heads, key_heads, interleaved, epsilon) for stream in streams]
    query, key, value = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return query, key, value


def naive_heads(
    stream: Projection, heads: int, key_heads: int, interleaved: bool, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same of one stream."""
    query, key, value = stream.heads.double().split([heads, key_heads, key_heads], dim=2)
    query = turned(normed(query, stream.query_norm, epsilon), stream, interleaved)
    key = turned(normed(key, stream.key_norm, epsilon), stream, interleaved)
    return query, key, value


def normed(x: torch.Tensor, weight: torch.Tensor | None, epsilon: float) -> torch.Tensor:
    """RMS norm of [B, T, H, K] per head for a weight [K], across all heads for one of [H, K]."""
    if weight is None:
        return x
    over = (-1,) if weight.ndim == 1 else (-2, -1)
    return x / (x.square().mean(dim=over, keepdim=True) + epsilon).sqrt() * weight.double()


def turned(x: torch.Tensor, stream: Projection, interleaved: bool) -> torch.Tensor:
    """Each pair of channels (k, k + K / 2), or (2 k, 2 k + 1), turned by its angle."""
    if stream.cos is None:
        return x
    shape = (len(stream.cos), -1, x.shape[-1] // 2)
    cos, sin = stream.cos.double().view(shape), stream.sin.double().view(shape)
    left, right = (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)
    pair = (left * cos - right * sin, right * cos + left * sin)
    return torch.stack(pair, dim=-1).flatten(-2) if interleaved else torch.cat(pair, dim=-1)
