"""The executor as a differentiable function: eager, and as `torch.library` operators for tracers.

An operator takes an empty tensor where a bias is absent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wmdsl_kernels.grouped import triton_executor
from wmdsl_kernels.tensors import is_traced

EXECUTORS = {"triton": triton_executor}


def execute(
    inputs: list[torch.Tensor],
    weights: list[torch.Tensor],
    biases: list[torch.Tensor | None],
    executor: str,
) -> list[torch.Tensor]:
    """input weight^T + bias of every expert by the named executor, differentiable."""
    if is_traced(inputs[0]):
        filled = [x.new_zeros(0) if b is None else b for x, b in zip(inputs, biases, strict=True)]
        return grouped_linear_forward(inputs, weights, filled, executor)
    return list(_Eager.apply(EXECUTORS[executor], len(inputs), *inputs, *weights, *biases))


class _Eager(torch.autograd.Function):
    @staticmethod
    def forward(ctx, module, count, *tensors):
        inputs, weights, biases = (tensors[at * count : (at + 1) * count] for at in range(3))
        ctx.save_for_backward(*inputs, *weights)
        ctx.module, ctx.biased = module, [bias is not None for bias in biases]
        return tuple(module.forward(inputs, weights, biases))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        count = len(gradients)
        inputs, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        *found, biases = ctx.module.backward(gradients, inputs, weights)
        kept = [bias if there else None for bias, there in zip(biases, ctx.biased, strict=True)]
        return None, None, *found[0], *found[1], *kept


@torch.library.custom_op("wmdsl_kernels::grouped_linear_forward", mutates_args=())
def grouped_linear_forward(
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    executor: str,
) -> list[torch.Tensor]:
    """Per expert [..., O]."""
    present = [bias if bias.numel() else None for bias in biases]
    return EXECUTORS[executor].forward(inputs, weights, present)


@torch.library.custom_op("wmdsl_kernels::grouped_linear_backward", mutates_args=())
def grouped_linear_backward(
    gradients: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    executor: str,
) -> list[torch.Tensor]:
    """Gradients of all inputs, then of all weights, then of all biases."""
    found = EXECUTORS[executor].backward(gradients, inputs, weights)
    return [gradient for column in found for gradient in column]


@grouped_linear_forward.register_fake
def _shapes(inputs, weights, biases, executor):
    pairs = zip(inputs, weights, strict=True)
    return [x.new_empty((*x.shape[:-1], weight.shape[0])) for x, weight in pairs]


@grouped_linear_backward.register_fake
def _gradient_shapes(gradients, inputs, weights, executor):
    like = [x.new_empty(x.shape) for x in (*inputs, *weights)]
    return [*like, *(weight.new_empty(weight.shape[:1]) for weight in weights)]


def _save(ctx, inputs, output):
    tokens, weights, biases, ctx.executor = inputs
    ctx.biased = [bias.numel() > 0 for bias in biases]
    ctx.save_for_backward(*tokens, *weights)


def _differentiate(ctx, gradients):
    count = len(gradients)
    inputs, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
    flat = grouped_linear_backward(gradients, inputs, weights, ctx.executor)
    columns = [flat[at * count : (at + 1) * count] for at in range(3)]
    kept = [bias if there else None for bias, there in zip(columns[2], ctx.biased, strict=True)]
    return columns[0], columns[1], kept, None


grouped_linear_forward.register_autograd(_differentiate, setup_context=_save)
