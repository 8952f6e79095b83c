"""The attention executors as `torch.library` operators, so that compile and export take them.

`wmdsl_kernels::attention_forward` and `attention_backward` carry the schedule as int32 tensors
(rows, then columns: tiles, pointers, ranges) and the executor's name as a string.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wmdsl_kernels.attention import executors
from wmdsl_kernels.schedule import ScheduleBuffers, TableBuffers


@torch.library.custom_op("wmdsl_kernels::attention_forward", mutates_args=())
def attention_forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Sequence[torch.Tensor],
    scale: float,
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, H, K] and LSE [B, H, T] by the named executor."""
    return executors.load(executor).forward(query, key, value, _buffers(schedule), scale)


@torch.library.custom_op("wmdsl_kernels::attention_backward", mutates_args=())
def attention_backward(
    grad_output: torch.Tensor,
    grad_lse: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    schedule: Sequence[torch.Tensor],
    scale: float,
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value by the named executor."""
    return executors.load(executor).backward(
        grad_output, grad_lse, query, key, value, output, lse, _buffers(schedule), scale
    )


@attention_forward.register_fake
def _forward_shapes(query, key, value, schedule, scale, executor):
    batch, length, heads, _ = query.shape
    dtype = torch.promote_types(query.dtype, torch.float32)
    lse = query.new_empty((batch, heads, length), dtype=dtype)
    return torch.empty_like(query, memory_format=torch.contiguous_format), lse


@attention_backward.register_fake
def _backward_shapes(
    grad_output, grad_lse, query, key, value, output, lse, schedule, scale, executor
):
    return tuple(
        torch.empty_like(tensor, memory_format=torch.contiguous_format)
        for tensor in (query, key, value)
    )


def _save(ctx, inputs, output):
    query, key, value, schedule, ctx.scale, ctx.executor = inputs
    ctx.save_for_backward(query, key, value, *output, *schedule)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_output, grad_lse):
    query, key, value, output, lse, *schedule = ctx.saved_tensors
    if grad_output is None:
        grad_output = torch.zeros_like(output)
    gradients = attention_backward(
        grad_output, grad_lse, query, key, value, output, lse, schedule, ctx.scale, ctx.executor
    )
    return *gradients, [None] * len(schedule), None, None


attention_forward.register_autograd(_differentiate, setup_context=_save)


def _buffers(schedule: Sequence[torch.Tensor]) -> ScheduleBuffers:
    return ScheduleBuffers(TableBuffers(*schedule[:3]), TableBuffers(*schedule[3:]))
