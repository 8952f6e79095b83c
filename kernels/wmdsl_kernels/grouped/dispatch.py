"""Projections of several experts: checks, and the choice of the back end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from wmdsl_kernels import errors
from wmdsl_kernels.backends import Call, never, triton_refusal
from wmdsl_kernels.choice import choose, verdicts
from wmdsl_kernels.grouped.configurations import MOST_EXPERTS
from wmdsl_kernels.grouped.naive import naive_grouped_linear
from wmdsl_kernels.grouped.operators import execute
from wmdsl_kernels.tensors import autocast, check_kind

REFUSALS = {"triton": triton_refusal(MOST_EXPERTS, "experts"), "torch": never}
"""What a call without `backend` chooses from, in this order; `naive` runs only when named."""


def project(
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor | None] | None,
    backend: str | None,
) -> list[torch.Tensor]:
    """`wmdsl_kernels.grouped_linear`."""
    biases = [None] * len(inputs) if biases is None else list(biases)
    if not len(inputs) == len(weights) == len(biases):
        raise errors.uneven_experts(len(inputs), len(weights), len(biases))
    if not inputs:
        raise errors.no_streams()
    inputs, weights, biases = (autocast(*column) for column in (inputs, weights, biases))
    _check(inputs, weights, biases)
    name = choose(REFUSALS, _call(inputs, weights), backend)
    if name == "torch":
        return [functional.linear(*one) for one in zip(inputs, weights, biases, strict=True)]
    if name == "naive":
        exact = naive_grouped_linear(inputs, weights, biases)
        return [output.to(inputs[0].dtype) for output in exact]
    return execute(inputs, weights, biases, name)


def explain(
    inputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> list[tuple[str, bool, str]]:
    """`wmdsl_kernels.grouped.explain_grouped`."""
    return verdicts(REFUSALS, _call(autocast(*inputs), autocast(*weights)))


def _call(inputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> Call:
    unit = all(tensor.stride(-1) == 1 for tensor in (*inputs, *weights))
    return Call(inputs[0].device, inputs[0].dtype, len(inputs), unit)


def _check(inputs, weights, biases) -> None:
    first = inputs[0]
    for number, (x, weight, bias) in enumerate(zip(inputs, weights, biases, strict=True)):
        if x.ndim < 2:
            raise errors.wrong_rank(f"input {number}", "[..., I]", x.shape)
        if weight.ndim != 2 or weight.shape[1] != x.shape[-1]:
            raise errors.wrong_shape(f"weight {number}", f"[O, {x.shape[-1]}]", weight.shape)
        if bias is not None and bias.shape != weight.shape[:1]:
            raise errors.wrong_shape(f"bias {number}", f"[{weight.shape[0]}]", bias.shape)
        named = (("input", x), ("weight", weight), ("bias", bias))
        for name, tensor in named:
            if tensor is not None:
                check_kind(f"{name} {number}", tensor, first)
