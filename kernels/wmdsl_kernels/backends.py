"""What the back ends of row-wise operations accept or refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from wmdsl_kernels import toolchain
from wmdsl_kernels.attention.triton_executor import missing as triton_missing
from wmdsl_kernels.native import DTYPES
from wmdsl_kernels.tensors import capability

TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Call:
    """The facts of a call that a refusal goes by."""

    device: torch.device
    dtype: torch.dtype
    width: int
    """What the kernels bound: channels that a program holds at a time, or experts."""
    unit_stride: bool
    """Whether the last dimension of every tensor is contiguous."""


Refusal = Callable[[Call], str | None]


def never(call: Call) -> None:
    """The refusal of a back end that takes every call."""


def cpu_refusal(package: str) -> Refusal:
    """The refusal of a package's C++ kernels."""

    def refusal(call: Call) -> str | None:
        if call.device.type != "cpu":
            return f"runs on cpu, not on {call.device.type}"
        if call.dtype not in DTYPES:
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
