"""What `torch.compile` has to know, said without importing its machinery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable[..., object])


def constant_result(function: Function) -> Function:
    """Mark that tracing calls the function once and keeps its result as a constant.

    `torch.compiler.assume_constant_result` sets the same mark, but importing torch._dynamo for it
    costs more than a second at the start of every process, compiled or not.
    """
    function._dynamo_marked_constant = True
    return function
