"""Projections of several experts in float64 from the definition."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def naive_grouped_linear(
    inputs: Sequence[torch.Tensor],  # [..., I]
    weights: Sequence[torch.Tensor],  # [O, I]
    biases: Sequence[torch.Tensor | None],  # [O]
) -> list[torch.Tensor]:
    """input weight^T + bias per expert, float64, differentiable."""
    outputs = []
    for x, weight, bias in zip(inputs, weights, biases, strict=True):
        product = torch.einsum("...i,oi->...o", x.double(), weight.double())
        outputs.append(product if bias is None else product + bias.double())
    return outputs
