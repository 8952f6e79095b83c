"""The attention executors as differentiable functions.

Tracers (compile, export, fake tensors) see the `torch.library` operators
`wmdsl_kernels::attention_forward` and `attention_backward`, which carry the schedule as the tensors
and sizes of its buffers. Eager calls skip the operator machinery, which costs 0.2 ms per training
call: more than a small kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wmdsl_kernels.attention.executors import EXECUTORS
from wmdsl_kernels.schedule import ScheduleBuffers
from wmdsl_kernels.tensors import is_traced, packed_like


def execute(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: ScheduleBuffers,
    scale: float,
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, H, K] and LSE [B, H, T] by the named executor, differentiable."""
    if is_traced(query):
        tensors, sizes = schedule.tensors, schedule.sizes
        return attention_forward(query, key, value, tensors, sizes, scale, executor)
    module = EXECUTORS[executor]
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))):
        return _forward(module, query, key, value, schedule, scale)
    return _Eager.apply(query, key, value, schedule, scale, module)


class _Eager(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, schedule, scale, module):
        output, lse = _forward(module, query, key, value, schedule, scale)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.schedule, ctx.scale, ctx.module = schedule, scale, module
        ctx.set_materialize_grads(False)
        return output, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output, grad_lse):
        query, key, value, output, lse = ctx.saved_tensors
        if grad_output is None:
            grad_output = torch.zeros_like(output)
        saved = (query, key, value, output, lse, ctx.schedule)
        gradients = _backward(ctx.module, grad_output, grad_lse, *saved, ctx.scale)
        return *gradients, None, None, None


def _forward(module, query, key, value, schedule, scale):
    """The executor's, which wants at least one sample."""
    if query.shape[0] == 0:
        return _outputs_of(query)
    return module.forward(query, key, value, schedule, scale)


def _backward(module, grad_output, grad_lse, query, key, value, *rest):
    if query.shape[0] == 0:
        return _gradients_of(query, key, value)
    return module.backward(grad_output, grad_lse, query, key, value, *rest)


def _outputs_of(query):
    """Output and LSE of the right shapes, uninitialised."""
    batch, length, heads, _ = query.shape
    dtype = torch.promote_types(query.dtype, torch.float32)
    return packed_like(query), query.new_empty((batch, heads, length), dtype=dtype)


def _gradients_of(query, key, value):
    """Gradients of the right shapes, uninitialised."""
    return packed_like(query), packed_like(key), packed_like(value)


@torch.library.custom_op("wmdsl_kernels::attention_forward", mutates_args=())
def attention_forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Sequence[torch.Tensor],
    sizes: Sequence[int],
    scale: float,
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, H, K] and LSE [B, H, T] by the named executor."""
    buffers = ScheduleBuffers.of(schedule, sizes)
    return _forward(EXECUTORS[executor], query, key, value, buffers, scale)


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
    sizes: Sequence[int],
    scale: float,
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value by the named executor."""
    buffers = ScheduleBuffers.of(schedule, sizes)
    saved = (query, key, value, output, lse, buffers)
    return _backward(EXECUTORS[executor], grad_output, grad_lse, *saved, scale)


@attention_forward.register_fake
def _forward_shapes(query, key, value, schedule, sizes, scale, executor):
    return _outputs_of(query)


@attention_backward.register_fake
def _backward_shapes(
    grad_output,
    grad_lse,
    query,
    key,
    value,
    output,
    lse,
    schedule,
    sizes,
    scale,
    executor,
):
    return _gradients_of(query, key, value)


def _save(ctx, inputs, output):
    query, key, value, schedule, *ctx.constants = inputs
    ctx.save_for_backward(query, key, value, *output, *schedule)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_output, grad_lse):
    query, key, value, output, lse, *schedule = ctx.saved_tensors
    if grad_output is None:
        grad_output = torch.zeros_like(output)
    saved = (query, key, value, output, lse, schedule)
    gradients = attention_backward(grad_output, grad_lse, *saved, *ctx.constants)
    return *gradients, [None] * len(schedule), None, None, None


attention_forward.register_autograd(_differentiate, setup_context=_save)
