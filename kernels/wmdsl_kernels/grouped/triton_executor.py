"""Executor `triton`: all experts in one launch, forward and for each of the gradients."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from wmdsl_kernels.grouped.configurations import Product, product_launch


def forward(
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor | None],
) -> list[torch.Tensor]:
    """Per expert [..., O]."""
    rows = [x.flatten(0, -2) for x in inputs]
    outputs = _products(rows, [weight.mT for weight in weights], biases)
    return [output.view(*x.shape[:-1], -1) for output, x in zip(outputs, inputs, strict=True)]


def backward(
    gradients: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """Gradients of inputs, weights and biases, deterministic."""
    slopes = [gradient.flatten(0, -2) for gradient in gradients]
    rows = [x.flatten(0, -2) for x in inputs]
    nothing = [None] * len(rows)
    grad_inputs = _products(slopes, weights, nothing)
    grad_weights = _products([slope.mT for slope in slopes], rows, nothing)
    grad_biases = [slope.sum(dim=0) for slope in slopes]
    shaped = [grad.view(x.shape) for grad, x in zip(grad_inputs, inputs, strict=True)]
    return shaped, grad_weights, grad_biases


def _products(
    lefts: Sequence[torch.Tensor],
    rights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor | None],
) -> list[torch.Tensor]:
    """left [M, K] right [K, N] + bias [N] of every expert, each [M, N]."""
    from wmdsl_kernels.grouped import triton_kernels as kernels

    pairs = list(zip(lefts, rights, strict=True))
    targets = [left.new_empty((left.shape[0], right.shape[1])) for left, right in pairs]
    sizes = [(left.shape[0], right.shape[1], left.shape[1]) for left, right in pairs]
    launch = product_launch(max(rows for rows, _, _ in sizes), lefts[0].element_size())
    starts = (0, *accumulate(_tiles(size, launch) for size in sizes))
    held = [target if bias is None else bias for target, bias in zip(targets, biases, strict=True)]
    kernels.grouped_kernel[(starts[-1],)](
        tuple(lefts),
        tuple(rights),
        tuple(held),
        tuple(targets),
        tuple(sizes),
        tuple(left.stride() for left in lefts),
        tuple(right.stride() for right in rights),
        starts,
        HAS_BIAS=sum(1 << place for place, bias in enumerate(biases) if bias is not None),
        ROWS=launch.rows,
        COLUMNS=launch.columns,
        DEPTH=launch.depth,
        PRECISION="ieee",
        num_warps=launch.warps,
        num_stages=launch.stages,
    )
    return targets


def _tiles(size: tuple[int, int, int], launch: Product) -> int:
    rows, columns, _ = size
    return -(-rows // launch.rows) * -(-columns // launch.columns)
