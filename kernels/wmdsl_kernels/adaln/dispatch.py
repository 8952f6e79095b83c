"""Modulated norm and gated residual: checks, and the choice of the back end.

B batch, T tokens, W width, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wmdsl_kernels import errors
from wmdsl_kernels.adaln import composed, naive
from wmdsl_kernels.adaln.configurations import WIDEST
from wmdsl_kernels.adaln.operators import execute_gate, execute_norm
from wmdsl_kernels.backends import Call, cpu_refusal, never, triton_refusal
from wmdsl_kernels.choice import choose, verdicts
from wmdsl_kernels.tensors import check_kind, common_dtype, is_traced

KINDS = ("layer", "rms")
REFUSALS = {"cpu": cpu_refusal("adaln"), "triton": triton_refusal(WIDEST), "torch": never}
"""What a call without `backend` chooses from, in this order; `naive` runs only when named."""

SMALL = 1 << 13
"""Numbers of x up to which a call on a CPU without a gradient is left to torch: to prepare one of
the C++ kernels takes 25 microseconds, as long as torch's few operations take together."""


def normalise(
    x: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor,
    lengths: Sequence[int] | None,
    kind: str,
    epsilon: float,
    backend: str | None,
) -> torch.Tensor:
    """`wmdsl_kernels.modulated_norm`."""
    x, shift, scale = common_dtype(x, shift, scale)
    if kind not in KINDS:
        raise errors.unknown_choice("kind", kind, KINDS)
    lengths = _checked(x, {}, {"shift": shift, "scale": scale}, lengths)
    if backend is None and _is_quick(x, shift, scale) and x.numel() <= SMALL:
        return composed.modulated_norm(x, shift, scale, lengths, kind, epsilon)
    name = choose(REFUSALS, _call(x, shift, scale), backend)
    if name == "torch":
        return composed.modulated_norm(x, shift, scale, lengths, kind, epsilon)
    if name == "naive":
        exact = naive.naive_modulated_norm(x, shift, scale, lengths, kind, epsilon)
        return exact.to(x.dtype)
    return execute_norm(x, shift, scale, lengths, kind == "layer", epsilon, name)


def add_gated(
    x: torch.Tensor,
    change: torch.Tensor,
    gate: torch.Tensor,
    lengths: Sequence[int] | None,
    backend: str | None,
) -> torch.Tensor:
    """`wmdsl_kernels.gated_residual`."""
    x, change, gate = common_dtype(x, change, gate)
    lengths = _checked(x, {"change": change}, {"gate": gate}, lengths)
    if backend is None and _is_quick(x, change, gate) and (len(lengths) == 1 or x.numel() <= SMALL):
        return composed.gated_residual(x, change, gate, lengths)
    name = choose(REFUSALS, _call(x, change, gate), backend)
    if name == "torch":
        return composed.gated_residual(x, change, gate, lengths)
    if name == "naive":
        return naive.naive_gated_residual(x, change, gate, lengths).to(x.dtype)
    return execute_gate(x, change, gate, lengths, name)


def _is_quick(*tensors: torch.Tensor) -> bool:
    """Whether a call needs nothing but its value, on a CPU."""
    if tensors[0].device.type != "cpu" or is_traced(tensors[0]):
        return False
    return not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))


def explain(*tensors: torch.Tensor) -> list[tuple[str, bool, str]]:
    """`wmdsl_kernels.adaln.explain_rowwise`."""
    return verdicts(REFUSALS, _call(*common_dtype(*tensors)))


def _call(*tensors: torch.Tensor) -> Call:
    first = tensors[0]
    unit = all(tensor.stride(-1) == 1 for tensor in tensors)
    return Call(first.device, first.dtype, first.shape[-1], unit)


def _checked(
    x: torch.Tensor,
    tokens: dict[str, torch.Tensor],
    rows: dict[str, torch.Tensor],
    lengths: Sequence[int] | None,
) -> list[int]:
    """The lengths of the runs, once all shapes, dtypes and devices fit."""
    if x.ndim != 3:
        raise errors.wrong_rank("x", "[B, T, W] (batch, tokens, width)", x.shape)
    check_kind("x", x, x)
    batch, count, width = x.shape
    lengths = [count] if lengths is None else list(lengths)
    if sum(lengths) != count or min(lengths, default=0) < 1:
        raise errors.wrong_lengths(lengths, count)
    expected = (batch, len(lengths), width)
    for named, shape in ((tokens, x.shape), (rows, expected)):
        for name, tensor in named.items():
            if tensor.shape != shape:
                raise errors.wrong_shape(name, str(list(shape)), tensor.shape)
            check_kind(name, tensor, x)
    return lengths
