"""The choice of a back end: the first that does not refuse, or the one that is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from wmdsl_kernels import errors, toolchain
from wmdsl_kernels.attention.describe import capability
from wmdsl_kernels.attention.triton_executor import missing as triton_missing

CPU_DTYPES = (torch.float32, torch.bfloat16)
TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
AUTOCAST_DTYPES = TRITON_DTYPES


@dataclass(frozen=True)
class Call:
    """What back ends of row-wise operations accept or refuse a call by."""

    device: torch.device
    dtype: torch.dtype
    width: int
    """What the kernels bound: channels that a program holds at a time, or experts."""
    unit_stride: bool
    """Whether the last dimension of every tensor is contiguous."""


Refusal = Callable[[Call], str | None]
"""Why a back end cannot take a call; None where it can."""


def never(call: Call) -> None:
    """The refusal of a back end that takes every call."""


def choose(refusals: Mapping[str, Refusal], call: Call, named: str | None) -> str:
    """The back end for the call; DispatchError where the named one is unknown or refuses."""
    if named is None:
        return next(name for name, refusal in refusals.items() if refusal(call) is None)
    if named == "naive":
        return named
    if named not in refusals:
        raise errors.unknown_backend(named, (*refusals, "naive"))
    reason = refusals[named](call)
    if reason is not None:
        raise errors.backend_refuses(named, reason)
    return named


def explained(refusals: Mapping[str, Refusal], call: Call) -> list[tuple[str, bool, str]]:
    """(back end, whether it accepts, why not) in the order of preference."""
    reasons = [(name, refusal(call)) for name, refusal in refusals.items()]
    return [(name, reason is None, reason or "") for name, reason in reasons]


def cpu_refusal(package: str) -> Refusal:
    """The refusal of a package's C++ kernels."""

    def refusal(call: Call) -> str | None:
        if call.device.type != "cpu":
            return f"runs on cpu, not on {call.device.type}"
        if call.dtype not in CPU_DTYPES:
            return f"no {call.dtype}"
        if not call.unit_stride:
            return "the last dimension of a tensor is not contiguous"
        return toolchain.missing(package)

    return refusal


def triton_refusal(widest: int, bounded: str = "channels") -> Refusal:
    """The refusal of Triton kernels that take at most `widest` of what they bound."""

    def refusal(call: Call) -> str | None:
        if call.device.type != "cuda":
            return f"runs on cuda, not on {call.device.type}"
        if call.dtype not in TRITON_DTYPES:
            return f"no {call.dtype}"
        if call.width > widest:
            return f"{call.width} {bounded} are above {widest}"
        if not call.unit_stride:
            return "the last dimension of a tensor is not contiguous"
        if capability(call.device) < 80:
            return "the GPU's compute capability is below 8.0"
        return triton_missing()

    return refusal


def common_dtype(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Under autocast, where layers disagree about the dtype, all in the widest; else unchanged."""
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return tensors
    wide = tensors[0].dtype
    for tensor in tensors[1:]:
        wide = torch.promote_types(wide, tensor.dtype)
    return tuple(t.to(wide) if t.dtype in AUTOCAST_DTYPES else t for t in tensors)
