"""Executor `triton`: the Triton kernels of heads on a CUDA device, one launch per stream.

B batch, T tokens, H query heads, G key heads, K head dim.
"""

from __future__ import annotations

import torch

from wmdsl_kernels.heads import Projection
from wmdsl_kernels.heads.configurations import TOKENS_PER_PROGRAM, head_launch
from wmdsl_kernels.heads.cpu import norm_gradients
from wmdsl_kernels.tensors import outer_strides, packed_like, unit_strided

PARTS = 3
"""Query, key and value: the last axis of a launch."""


def forward(
    streams: list[Projection], heads: int, key_heads: int, interleaved: bool, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query [B, T, H, K], key and value [B, T, G, K] of all streams."""
    first = streams[0].heads
    tokens = sum(stream.heads.shape[1] for stream in streams)
    query, key, value = (
        first.new_empty((first.shape[0], tokens, count, first.shape[3]))
        for count in (heads, key_heads, key_heads)
    )
    start = 0
    for stream in streams:
        strides = outer_strides(query, key, value)
        _place(stream, (query, key, value), strides, None, start, interleaved, epsilon)
        start += stream.heads.shape[1]
    return query, key, value


def store(
    stream: Projection,
    heads: int,
    key_heads: int,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    interleaved: bool,
    epsilon: float,
) -> torch.Tensor:
    """Query [B, T, H, K]; keys and values are written to their slots of the pools."""
    batch, tokens, _, width = stream.heads.shape
    query = stream.heads.new_empty((batch, tokens, heads, width))
    pools = (key_pool, value_pool)
    strides = [*outer_strides(query), *(s for pool in pools for s in (0, *pool.stride()[:2]))]
    _place(stream, (query, *pools), strides, slots.contiguous(), 0, interleaved, epsilon)
    return query


def backward(
    gradients: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    streams: list[Projection],
    heads: int,
    key_heads: int,
    interleaved: bool,
    epsilon: float,
) -> list[tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]]:
    """Per stream the gradients of its heads and its norms; deterministic."""
    gradients = tuple(map(unit_strided, gradients))
    found, start = [], 0
    for stream in streams:
        grad, sums = _return(stream, gradients, start, interleaved, epsilon)
        found.append((grad, *norm_gradients(stream, sums, heads)))
        start += stream.heads.shape[1]
    return found


def _place(stream: Projection, targets, strides, slots, start, interleaved, epsilon) -> None:
    from wmdsl_kernels.heads import triton_kernels as kernels

    query, key, value = targets
    projected = stream.heads
    norms, tables, table_strides, modes = _small(stream)
    kernels.forward_kernel[_grid(projected)](
        projected,
        query,
        key,
        value,
        *norms,
        *tables,
        projected if slots is None else slots,
        epsilon,
        projected.shape[1],
        start,
        *projected.stride()[:2],
        *strides,
        *table_strides,
        CACHED=slots is not None,
        **modes,
        **_constants(projected, query.shape[2], key.shape[-2], interleaved),
    )


def _return(stream: Projection, gradients, start, interleaved, epsilon):
    """Gradient of the heads, and the sums [H + G, K] of the norms' gradients."""
    from wmdsl_kernels.heads import triton_kernels as kernels

    projected = stream.heads
    grad_query, grad_key, _ = gradients
    heads, key_heads = grad_query.shape[2], grad_key.shape[2]
    grad = packed_like(projected)
    norms, tables, table_strides, modes = _small(stream)
    programs, batch, _ = _grid(projected)
    partial = torch.zeros(
        programs * batch, heads + key_heads, projected.shape[3], device=projected.device
    )
    kernels.backward_kernel[_grid(projected)](
        projected,
        *gradients,
        grad,
        partial,
        *norms,
        *tables,
        epsilon,
        projected.shape[1],
        start,
        *projected.stride()[:2],
        *outer_strides(*gradients),
        *table_strides,
        **modes,
        **_constants(projected, heads, key_heads, interleaved),
    )
    return grad, partial.sum(dim=0)


def _small(stream: Projection):
    """Norms and tables as contiguous fp32, strides of a table, and which of them there are."""
    unused = stream.heads
    norms = [_single(weight, unused) for weight in (stream.query_norm, stream.key_norm)]
    tables = [_single(table, unused) for table in (stream.cos, stream.sin)]
    pairs = stream.heads.shape[3] // 2
    per_head = stream.cos is not None and stream.cos.ndim == 3
    table_strides = (tables[0].stride(0), pairs if per_head else 0)
    modes = {
        "QUERY_NORM": 0 if stream.query_norm is None else stream.query_norm.ndim,
        "KEY_NORM": 0 if stream.key_norm is None else stream.key_norm.ndim,
        "ROTATED": stream.cos is not None,
    }
    return norms, tables, table_strides, modes


def _single(tensor: torch.Tensor | None, unused: torch.Tensor) -> torch.Tensor:
    return unused if tensor is None else tensor.detach().float().contiguous()


def _grid(projected: torch.Tensor) -> tuple[int, int, int]:
    return -(-projected.shape[1] // TOKENS_PER_PROGRAM), projected.shape[0], PARTS


def _constants(projected, heads: int, key_heads: int, interleaved: bool) -> dict[str, int]:
    head_dim = projected.shape[3]
    launch = head_launch(heads, key_heads, head_dim)
    return {
        "QUERIES": heads,
        "KEYS": key_heads,
        "QUERY_TILE": launch.heads,
        "KEY_TILE": launch.key_heads,
        "HEAD_DIM": head_dim,
        "PAIRS": launch.pairs,
        "ROWS": launch.rows,
        "TOKENS": TOKENS_PER_PROGRAM,
        "STEP": 2 if interleaved else 1,
        "GAP": 1 if interleaved else head_dim // 2,
        "num_warps": launch.warps,
    }
