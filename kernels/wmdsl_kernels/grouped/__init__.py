"""Projections of several experts at once: each has its own tokens, weights and widths.

In: per expert tokens [..., I], a weight [O, I] and perhaps a bias [O]; I and O differ.
Out: per expert [..., O].
Invariant: a back end computes the same function or refuses with a reason.

Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def grouped_linear(
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor | None] | None = None,
    *,
    backend: str | None = None,
) -> list[torch.Tensor]:
    """input weight^T + bias of every expert: one launch on a GPU.

    inputs[e] [..., I_e], weights[e] [O_e, I_e], biases[e] [O_e] or None -> [..., O_e]. Under
    autocast everything takes its dtype, as in torch's linear. Differentiable once on the `triton`
    back end. Raises ArgumentError for what does not fit, and DispatchError where the named back
    end refuses.
    """
    from wmdsl_kernels.grouped.dispatch import project

    return project(inputs, weights, biases, backend)


def explain_grouped(
    inputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> list[tuple[str, bool, str]]:
    """(back end, whether it accepts, why not) in the order of preference; meta tensors will do."""
    from wmdsl_kernels.grouped.dispatch import explain

    return explain(inputs, weights)


__all__ = ["explain_grouped", "grouped_linear"]
