"""What `torch.compile` has to know, said without importing its machinery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Function = TypeVar("Function", bound=Callable[..., object])


def readable(tensor: torch.Tensor) -> bool:
    """Whether a tensor that was kept may be read here: a stand-in only under the mode that made it,
    and under such a mode nothing else."""
    import torch

    mode = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    if type(tensor) is torch.Tensor:
        return mode is None
    return getattr(tensor, "fake_mode", None) is mode


def constant_result(function: Function) -> Function:
    """Mark that tracing calls the function once and keeps its result as a constant.

    `torch.compiler.assume_constant_result` sets the same mark, but importing torch._dynamo for it
    costs more than a second at the start of every process, compiled or not.
    """
    function._dynamo_marked_constant = True
    return function
