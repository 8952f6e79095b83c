"""Calls of the C++ kernels: a function of a package, and the structure that is its argument."""

from __future__ import annotations

import ctypes
from functools import cache

import torch

from wmdsl_kernels import toolchain

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
"""What the names of the functions end in."""


class Place(ctypes.Structure):
    """`struct Tensor` of problem.h and `struct Place` of heads.cpp."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("batch", "token", "head")),
    ]


def place(tensor: torch.Tensor) -> Place:
    """Where the tensor lies."""
    return Place(tensor.data_ptr(), *tensor.stride()[:3])


def run(package: str, name: str, problem: ctypes.Structure) -> None:
    """Call a function of a package's kernels."""
    _function(package, name, type(problem))(ctypes.byref(problem))


@cache
def _function(package: str, name: str, problem: type[ctypes.Structure]):
    function = getattr(toolchain.library(package), name)
    function.argtypes = [ctypes.POINTER(problem)]
    function.restype = None
    return function
