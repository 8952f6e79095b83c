"""Back end `torch`: the same function of torch's operations, on any device and for any dtype."""

from __future__ import annotations

import torch
from torch.nn import functional

from wmdsl_kernels.heads import Projection
from wmdsl_kernels.tensors import check_slots, is_traced


def joint_heads(
    streams: list[Projection], heads: int, key_heads: int, interleaved: bool, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value of all streams; half precision is rounded once, at the end."""
    parts = [stream_heads(stream, heads, key_heads, interleaved, epsilon) for stream in streams]
    if len(parts) == 1:
        return parts[0]
    query, key, value = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return query, key, value


def stream_heads(
    stream: Projection, heads: int, key_heads: int, interleaved: bool, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query [B, T, H, K], key and value [B, T, G, K] of one stream."""
    query, key, value = stream.heads.split([heads, key_heads, key_heads], dim=2)
    query = _placed(query, stream.query_norm, stream, interleaved, epsilon)
    key = _placed(key, stream.key_norm, stream, interleaved, epsilon)
    return query, key, value


def cached_heads(
    stream: Projection,
    heads: int,
    key_heads: int,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    interleaved: bool,
    epsilon: float,
) -> torch.Tensor:
    """Query; key and value go to their slots."""
    if not is_traced(slots):
        check_slots(slots, key_pool)
    query, key, value = stream_heads(stream, heads, key_heads, interleaved, epsilon)
    kept = slots >= 0
    places = slots[kept].long()
    key_pool[places] = key[kept]
    value_pool[places] = value[kept]
    return query


def _placed(x, weight, stream: Projection, interleaved: bool, epsilon: float) -> torch.Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if weight is not None:
        wide = functional.rms_norm(wide, weight.shape, weight.to(wide.dtype), epsilon)
    if stream.cos is not None:
        wide = _turned(wide, stream.cos, stream.sin, interleaved)
    return wide.to(x.dtype)


def _turned(x, cos, sin, interleaved: bool) -> torch.Tensor:
    shape = (len(cos), -1, x.shape[-1] // 2)
    cos, sin = cos.to(x.dtype).view(shape), sin.to(x.dtype).view(shape)
    left, right = (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)
    pair = (left * cos - right * sin, right * cos + left * sin)
    return torch.stack(pair, dim=-1).flatten(-2) if interleaved else torch.cat(pair, dim=-1)
