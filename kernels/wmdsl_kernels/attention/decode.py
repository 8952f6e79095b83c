"""Decoding: a few queries over cached keys that are read from a pool by slot number.

A denoising loop attends from 16-64 action tokens to thousands of cached video keys. The keys lie in
a pool in any order; `slots` says which of them a sample sees. Nothing is gathered: the kernels of
a GPU and the C++ ones read the pool by index. Where neither runs, each sample's rows are gathered.
B batch, A queries, S slots, P pool size, H query heads, G key heads, K head dim.
"""

from __future__ import annotations

import torch

from wmdsl_kernels import errors
from wmdsl_kernels.attention import attention, cpu
from wmdsl_kernels.attention.configurations import decode_launch, decode_tile, head_width
from wmdsl_kernels.attention.describe import check_heads
from wmdsl_kernels.attention.refusals import LARGEST_TRITON_HEAD_DIM
from wmdsl_kernels.attention.slots import empty_slots, merge
from wmdsl_kernels.backends import Call, cpu_refusal, never, triton_refusal
from wmdsl_kernels.choice import choose
from wmdsl_kernels.splits import share_of
from wmdsl_kernels.tensors import (
    check_kind,
    check_slots,
    is_traced,
    outer_strides,
    packed_like,
    processors,
)

REFUSALS = {
    "triton": triton_refusal(LARGEST_TRITON_HEAD_DIM),
    "cpu": cpu_refusal("attention"),
    "gathered": never,
}
POOL_LAYOUT = "[P, G, K] (slots, key heads, head dim)"


def decode(
    query: torch.Tensor,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    scale: float | None,
    return_lse: bool,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """`wmdsl_kernels.decode_attention`."""
    _check(query, key_pool, value_pool, slots)
    scale = query.shape[3] ** -0.5 if scale is None else scale
    call = Call(query.device, query.dtype, query.shape[3], unit_stride=True)
    executor = choose(REFUSALS, call, None)
    run = decode_forward if is_traced(query) else _execute
    with torch.no_grad():
        output, lse = run(query, key_pool, value_pool, slots, scale, executor)
    return (output, lse) if return_lse else output


def _indexed(query, key_pool, value_pool, slots, scale):
    check_slots(slots, key_pool)
    return cpu.decode(query, key_pool, value_pool, slots, scale)


def _gathered(query, key_pool, value_pool, slots, scale):
    check_slots(slots, key_pool)
    batch, tokens, heads, _ = query.shape
    output = torch.zeros_like(query, memory_format=torch.contiguous_format)
    lse = torch.full((batch, heads, tokens), -torch.inf, dtype=torch.float32, device=query.device)
    for sample in range(batch):
        present = slots[sample][slots[sample] >= 0].long()
        if len(present) == 0:
            continue
        one = slice(sample, sample + 1)
        keys, values = key_pool[present][None], value_pool[present][None]
        output[one], lse[one] = attention(query[one], keys, values, scale=scale, return_lse=True)
    return output, lse


def _split(query, key_pool, value_pool, slots, scale):
    from wmdsl_kernels.attention.decode_kernels import split_kernel

    batch, tokens, heads, head_dim = query.shape
    key_heads, length = key_pool.shape[1], slots.shape[1]
    group = heads // key_heads
    rows = tokens * group
    tile = decode_tile(rows, query.element_size())
    lines, row_tiles = batch * key_heads, -(-rows // tile)
    launch = decode_launch(head_width(head_dim), query.element_size(), tile)
    share = share_of(length, lines * row_tiles, processors(query.device), launch.step)
    filled = empty_slots(lines, -(-length // share), rows, query)
    split_kernel[(filled.lse.shape[1], lines, row_tiles)](
        query,
        key_pool,
        value_pool,
        slots.contiguous(),
        *filled,
        scale,
        rows,
        length,
        share,
        *outer_strides(query, key_pool, value_pool),
        KEY_HEADS=key_heads,
        GROUP=group,
        HEAD_DIM=head_dim,
        WIDTH=head_width(head_dim),
        ROWS=tile,
        KEYS=launch.step,
        PRECISION="ieee",
        num_warps=launch.warps,
        num_stages=launch.stages,
    )
    output = packed_like(query)
    lse = torch.empty(batch, heads, tokens, dtype=torch.float32, device=query.device)
    merge(filled, output, lse)
    return output, lse


EXECUTORS = {"triton": _split, "cpu": _indexed, "gathered": _gathered}


def _execute(query, key_pool, value_pool, slots, scale, executor):
    if query.numel() == 0:  # no sample, or no query: kernels want at least one
        return _shapes(query, key_pool, value_pool, slots, scale, executor)
    return EXECUTORS[executor](query, key_pool, value_pool, slots, scale)


@torch.library.custom_op("wmdsl_kernels::decode_forward", mutates_args=())
def decode_forward(
    query: torch.Tensor,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    scale: float,
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, A, H, K] and LSE [B, H, A]: what tracers see of a call."""
    return _execute(query, key_pool, value_pool, slots, scale, executor)


@decode_forward.register_fake
def _shapes(query, key_pool, value_pool, slots, scale, executor):
    batch, tokens, heads, _ = query.shape
    return packed_like(query), query.new_empty((batch, heads, tokens), dtype=torch.float32)


def _check(query, key_pool, value_pool, slots) -> None:
    if query.ndim != 4:
        raise errors.wrong_rank("query", "[B, A, H, K]", query.shape)
    check_kind("query", query, query)
    for name, pool in (("key_pool", key_pool), ("value_pool", value_pool)):
        if pool.ndim != 3:
            raise errors.wrong_rank(name, POOL_LAYOUT, pool.shape)
        if pool.shape != key_pool.shape or pool.shape[2] != query.shape[3]:
            raise errors.wrong_shape(name, f"[P, G, {query.shape[3]}], alike", pool.shape)
        check_kind(name, pool, query)
        if pool.stride(2) != 1:
            raise errors.strided_head_dim(name, pool.stride(2))
    if query.stride(3) != 1:
        raise errors.strided_head_dim("query", query.stride(3))
    check_heads(query, key_pool.shape[1])
    if slots.dtype != torch.int32:
        raise errors.wrong_dtype("slots", slots.dtype, "torch.int32")
    if slots.device != query.device:
        raise errors.wrong_device("slots", slots.device, query.device)
    if slots.ndim != 2 or slots.shape[0] != query.shape[0] or slots.shape[1] == 0:
        raise errors.wrong_shape("slots", f"[{query.shape[0]}, S] with S >= 1", slots.shape)
