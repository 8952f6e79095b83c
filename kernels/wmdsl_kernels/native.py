"""Calls of the C++ kernels: a function of a package, and the structure that is its argument."""

from __future__ import annotations

import ctypes
from functools import cache

import torch

from wmdsl_kernels import toolchain

DTYPES = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
"""What the names of the functions end in."""

Place = tuple[int, int, int, int]
"""Where a tensor lies: its address and the strides of batch, token and head, in elements."""

PLACE = ctypes.c_int64 * 4
"""The same in a structure: `struct Tensor` of problem.h, `struct Place` of heads.cpp."""

NOWHERE: Place = (0, 0, 0, 0)
"""The place of a tensor that a call does not have."""


def place(tensor: torch.Tensor) -> Place:
    """Where a tensor of four dimensions lies."""
    batch, token, head, _ = tensor.stride()
    return tensor.data_ptr(), batch, token, head


def pool_place(pool: torch.Tensor) -> Place:
    """Where a pool [P, G, K] lies, whose rows are the tokens of every sample."""
    row, head, _ = pool.stride()
    return pool.data_ptr(), 0, row, head


def run(package: str, name: str, problem: ctypes.Structure | bytes) -> None:
    """Call a function of a package's kernels."""
    _function(package, name)(problem if type(problem) is bytes else ctypes.byref(problem))


@cache
def _function(package: str, name: str):
    function = getattr(toolchain.library(package), name)
    function.argtypes = [ctypes.c_void_p]
    function.restype = None
    return function
