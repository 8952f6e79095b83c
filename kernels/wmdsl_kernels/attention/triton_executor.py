"""Executor `triton`: the Triton kernels on a CUDA device of compute capability 8.0 or newer.

B batch, T query tokens, S key tokens, H query heads, G key heads, K head dim.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

from wmdsl_kernels.attention.configurations import (
    NARROW_ROWS,
    Configuration,
    configuration,
    head_width,
)
from wmdsl_kernels.attention.request import ITEM_BYTES, Request
from wmdsl_kernels.attention.slots import empty_slots, merge
from wmdsl_kernels.schedule import ScheduleBuffers, Tiling
from wmdsl_kernels.splits import share_of
from wmdsl_kernels.tensors import capability, outer_strides, packed_like
from wmdsl_kernels.tracing import constant_result

DELTA_ROWS = 32
DESCRIPTOR_ALIGNMENT_BYTES = 16


@constant_result
def missing() -> str | None:
    """Why Triton cannot be used here; None where it can."""
    return None if find_spec("triton") else "triton is not installed"


def tiling(request: Request) -> Tiling:
    """Query and key tile from the launch table; steps are joined to whole tiles.

    Where so few tiles do not fill the GPU, their keys are cut into shares. Not in traced calls,
    whose batch may be a symbol: a share made of it would bind them to that batch.
    """
    longest = request.longest_query_block(NARROW_ROWS + 1)
    item_bytes = ITEM_BYTES[request.dtype]
    row = configuration(request.capability, request.head_dim, item_bytes, longest)
    if request.traced or request.processors is None:
        return row.tiling
    programs = request.query_tiles(row.tiling) * request.batch * request.query_heads
    share = share_of(request.most_keys, programs, request.processors, row.forward.step)
    return row.tiling._replace(share=share)


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: ScheduleBuffers,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, H, K] and LSE [B, H, T] in float32."""
    from wmdsl_kernels.attention import triton_kernels as kernels

    batch, length, heads, head_dim = query.shape
    slots = schedule.shares.most
    split = slots > 1
    launch = _configuration(query, schedule).forward
    output = packed_like(query)
    lse = torch.empty(batch, heads, length, dtype=torch.float32, device=query.device)
    filled = empty_slots(batch * heads, slots, length, query) if split else None
    _, tiles, pointers, ranges, *_ = schedule.shares if split else schedule.rows
    # [B, T, H, K], or [B, S T, H, K] for slots.
    target = filled.output.view(batch, heads, -1, head_dim).transpose(1, 2) if split else output
    kernels.forward_kernel[(len(tiles), batch * heads)](
        query,
        key,
        value,
        target,
        filled.lse if split else lse,
        tiles,
        pointers,
        ranges,
        schedule.limits,
        scale,
        target.shape[1],
        *outer_strides(query, key, value, target),
        HEADS=heads,
        GROUP=heads // key.shape[2],
        ROWS=schedule.rows.tile,
        KEYS=launch.step,
        STAIRS=len(schedule.limits) > 0,
        SPLIT=split,
        **_shared_constants(query),
        num_warps=launch.warps,
        num_stages=launch.stages,
    )
    if split:
        merge(filled, output, lse, schedule.shares.counts)
    return output, lse


def backward(
    grad_output: torch.Tensor,
    grad_lse: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    schedule: ScheduleBuffers,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value; deterministic, without atomics."""
    grad_output = grad_output.contiguous()
    delta = _delta(output, grad_output, grad_lse)
    operands = (query, key, value, grad_output)
    statistics = (lse, delta)
    grad_query = _grad_query(operands, statistics, schedule, scale)
    grad_key, grad_value = _grad_key_value(operands, statistics, schedule, scale)
    return grad_query, grad_key, grad_value


def _delta(output, grad_output, grad_lse) -> torch.Tensor:
    from wmdsl_kernels.attention import triton_kernels as kernels

    batch, length, heads, head_dim = output.shape
    delta = torch.empty(batch, heads, length, dtype=torch.float32, device=output.device)
    kernels.delta_kernel[(-(-length // DELTA_ROWS), batch * heads)](
        output,
        grad_output,
        delta if grad_lse is None else grad_lse.contiguous(),
        delta,
        length,
        *outer_strides(output, grad_output),
        HEADS=heads,
        HEAD_DIM=head_dim,
        WIDTH=head_width(head_dim),
        ROWS=DELTA_ROWS,
        HAS_GRAD_LSE=grad_lse is not None,
        num_warps=4,
    )
    return delta


def _grad_query(operands, statistics, schedule: ScheduleBuffers, scale: float) -> torch.Tensor:
    from wmdsl_kernels.attention import triton_kernels as kernels

    query, key, value, grad_output = operands
    batch, length, heads, _ = query.shape
    rows = schedule.rows
    launch = _configuration(query, schedule).grad_query
    grad_query = packed_like(query)
    kernels.grad_query_kernel[(len(rows.tiles), batch * heads)](
        *operands,
        grad_query,
        *statistics,
        rows.tiles,
        rows.pointers,
        rows.ranges,
        schedule.limits,
        scale,
        length,
        *outer_strides(query, key, value, grad_output, grad_query),
        HEADS=heads,
        GROUP=heads // key.shape[2],
        ROWS=rows.tile,
        KEYS=launch.step,
        STAIRS=len(schedule.limits) > 0,
        **_shared_constants(query),
        num_warps=launch.warps,
        num_stages=launch.stages,
    )
    return grad_query


def _grad_key_value(operands, statistics, schedule: ScheduleBuffers, scale: float):
    from wmdsl_kernels.attention import triton_kernels as kernels

    query, key, value, grad_output = operands
    batch, length, heads, _ = query.shape
    key_heads = key.shape[2]
    columns = schedule.columns
    launch = _configuration(query, schedule).grad_key_value
    descriptors = launch.descriptors and _aligned(query) and _aligned(grad_output)
    grad_key = packed_like(key)
    grad_value = packed_like(value)
    kernels.grad_key_value_kernel[(len(columns.tiles), batch * key_heads)](
        _described(query, launch.step) if descriptors else query,
        key,
        value,
        _described(grad_output, launch.step) if descriptors else grad_output,
        grad_key,
        grad_value,
        *statistics,
        columns.tiles,
        columns.pointers,
        columns.ranges,
        schedule.limits,
        scale,
        length,
        *outer_strides(query, key, value, grad_output, grad_key),
        KEY_HEADS=key_heads,
        GROUP=heads // key_heads,
        ROWS=launch.step,
        KEYS=columns.tile,
        STAIRS=len(schedule.limits) > 0,
        DESCRIPTORS=descriptors,
        **_shared_constants(query),
        num_warps=launch.warps,
        num_stages=launch.stages,
    )
    return grad_key, grad_value


def _configuration(query: torch.Tensor, schedule: ScheduleBuffers) -> Configuration:
    return configuration(
        capability(query.device), query.shape[3], query.dtype.itemsize, schedule.rows.tile
    )


def _shared_constants(query: torch.Tensor) -> dict[str, object]:
    head_dim = query.shape[3]
    return {"HEAD_DIM": head_dim, "WIDTH": head_width(head_dim), "PRECISION": "ieee"}


def _aligned(tensor: torch.Tensor) -> bool:
    places = (tensor.data_ptr(), *(s * tensor.element_size() for s in tensor.stride()[:3]))
    return all(place % DESCRIPTOR_ALIGNMENT_BYTES == 0 for place in places)


def _described(tensor: torch.Tensor, rows: int):
    from triton.tools.tensor_descriptor import TensorDescriptor

    block = [1, rows, 1, head_width(tensor.shape[3])]
    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), block)
