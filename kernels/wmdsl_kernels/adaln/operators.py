"""The executors as differentiable functions: eager, and as `torch.library` operators for tracers.

`executor` names one of EXECUTORS. B batch, T tokens, W width, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wmdsl_kernels.adaln import cpu, triton_executor
from wmdsl_kernels.tensors import is_traced, packed_like

EXECUTORS = {"cpu": cpu, "triton": triton_executor}


def execute_norm(
    x: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor,
    lengths: list[int],
    centred: bool,
    epsilon: float,
    executor: str,
) -> torch.Tensor:
    """norm(x) (1 + scale) + shift by the named executor, differentiable."""
    if is_traced(x):
        return modulated_norm_forward(x, shift, scale, lengths, centred, epsilon, executor)[0]
    return _EagerNorm.apply(x, shift, scale, lengths, centred, epsilon, EXECUTORS[executor])


def execute_gate(
    x: torch.Tensor,
    change: torch.Tensor,
    gate: torch.Tensor,
    lengths: list[int],
    executor: str,
) -> torch.Tensor:
    """x + gate * change by the named executor, differentiable."""
    if is_traced(x):
        return gated_residual_forward(x, change, gate, lengths, executor)
    return _EagerGate.apply(x, change, gate, lengths, EXECUTORS[executor])


class _EagerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, shift, scale, lengths, centred, epsilon, module):
        output, statistics = module.norm_forward(x, shift, scale, lengths, centred, epsilon)
        ctx.save_for_backward(x, scale, statistics)
        ctx.constants, ctx.module = (lengths, centred), module
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        gradients = ctx.module.norm_backward(grad_output, *ctx.saved_tensors, *ctx.constants)
        return *gradients, None, None, None, None


class _EagerGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, change, gate, lengths, module):
        ctx.save_for_backward(change, gate)
        ctx.lengths, ctx.module = lengths, module
        return module.gate_forward(x, change, gate, lengths)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        gradients = ctx.module.gate_backward(grad_output, *ctx.saved_tensors, ctx.lengths)
        return grad_output, *gradients, None, None


@torch.library.custom_op("wmdsl_kernels::modulated_norm_forward", mutates_args=())
def modulated_norm_forward(
    x: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor,
    lengths: Sequence[int],
    centred: bool,
    epsilon: float,
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, W] and statistics [B, T, 2]."""
    return EXECUTORS[executor].norm_forward(x, shift, scale, lengths, centred, epsilon)


@torch.library.custom_op("wmdsl_kernels::modulated_norm_backward", mutates_args=())
def modulated_norm_backward(
    grad_output: torch.Tensor,
    x: torch.Tensor,
    scale: torch.Tensor,
    statistics: torch.Tensor,
    lengths: Sequence[int],
    centred: bool,
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of x [B, T, W], shift and scale [B, R, W]."""
    saved = (x, scale, statistics)
    return EXECUTORS[executor].norm_backward(grad_output, *saved, lengths, centred)


@torch.library.custom_op("wmdsl_kernels::gated_residual_forward", mutates_args=())
def gated_residual_forward(
    x: torch.Tensor,
    change: torch.Tensor,
    gate: torch.Tensor,
    lengths: Sequence[int],
    executor: str,
) -> torch.Tensor:
    """Output [B, T, W]."""
    return EXECUTORS[executor].gate_forward(x, change, gate, lengths)


@torch.library.custom_op("wmdsl_kernels::gated_residual_backward", mutates_args=())
def gated_residual_backward(
    grad_output: torch.Tensor,
    change: torch.Tensor,
    gate: torch.Tensor,
    lengths: Sequence[int],
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of change [B, T, W] and gate [B, R, W]."""
    return EXECUTORS[executor].gate_backward(grad_output, change, gate, lengths)


@modulated_norm_forward.register_fake
def _norm_shapes(x, shift, scale, lengths, centred, epsilon, executor):
    return packed_like(x), x.new_empty((*x.shape[:2], 2), dtype=torch.float32)


@modulated_norm_backward.register_fake
def _norm_gradient_shapes(grad_output, x, scale, statistics, lengths, centred, executor):
    return packed_like(x), packed_like(scale), packed_like(scale)


@gated_residual_forward.register_fake
def _gate_shapes(x, change, gate, lengths, executor):
    return packed_like(x)


@gated_residual_backward.register_fake
def _gate_gradient_shapes(grad_output, change, gate, lengths, executor):
    return packed_like(change), packed_like(gate)


def _save_norm(ctx, inputs, output):
    x, _, scale, lengths, centred, _, executor = inputs
    ctx.save_for_backward(x, scale, output[1])
    ctx.constants = (lengths, centred, executor)


def _differentiate_norm(ctx, grad_output, grad_statistics):
    gradients = modulated_norm_backward(grad_output, *ctx.saved_tensors, *ctx.constants)
    return *gradients, None, None, None, None


def _save_gate(ctx, inputs, output):
    _, change, gate, lengths, executor = inputs
    ctx.save_for_backward(change, gate)
    ctx.constants = (lengths, executor)


def _differentiate_gate(ctx, grad_output):
    gradients = gated_residual_backward(grad_output, *ctx.saved_tensors, *ctx.constants)
    return grad_output, *gradients, None, None


modulated_norm_forward.register_autograd(_differentiate_norm, setup_context=_save_norm)
gated_residual_forward.register_autograd(_differentiate_gate, setup_context=_save_gate)
