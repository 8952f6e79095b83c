"""Triton kernels on CPU tensors: the interpreter, with its bf16 put right.

The stock interpreter keeps bf16 as uint16 and multiplies the bit patterns in `tl.dot`, silently;
and it cuts fp32 off to bf16 where a GPU rounds to the nearest, which doubles the error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import triton
import triton.experimental.gluon
import triton.language as tl
from triton.runtime import interpreter

STOCK_DOT = interpreter.InterpreterBuilder.create_dot
STOCK_TRUNCATION = interpreter.InterpreterBuilder.create_fp_trunc

LANGUAGE = (tl, tl.core, tl.math, tl.standard, tl.tensor, tl.dtype, tl.core.tensor_descriptor_base)
"""The modules and classes that the interpreter rebinds names of while a kernel runs."""


@contextmanager
def interpreted(*modules: ModuleType) -> Iterator[None]:
    """Inside, all Triton kernels of these modules run under the patched interpreter.

    Triton's own `tl.sum`, `tl.max` and the like are kernels too, and are interpreted with them.
    (Gluon copies them when it is imported, so it is imported above, before any of this.)
    Behind it everything is as before, so that the same process can compile kernels.
    """
    with _restored(*LANGUAGE, *modules, interpreter.InterpreterBuilder):
        interpreter.InterpreterBuilder.create_dot = _exact_dot
        interpreter.InterpreterBuilder.create_fp_trunc = _rounding
        for module in (*modules, tl, tl.standard):
            for name, kernel in list(vars(module).items()):
                if isinstance(kernel, triton.runtime.JITFunction):
                    setattr(module, name, interpreter.InterpretedFunction(kernel.fn))
        try:
            yield
        finally:
            # They read names that the interpreter put into the modules of their kernels.
            interpreter.InterpretedFunction.rewritten_fn.clear()


@contextmanager
def _restored(*spaces: ModuleType | type) -> Iterator[None]:
    """Give modules and classes back the names they had.

    The interpreter itself forgets that where a kernel calls another one.
    """
    before = [dict(vars(space)) for space in spaces]
    try:
        yield
    finally:
        for space, names in zip(spaces, before, strict=True):
            for name in vars(space).keys() - names.keys():
                delattr(space, name)
            for name, value in names.items():
                if vars(space)[name] is not value:
                    setattr(space, name, value)


def _exact_dot(builder, left, right, added, input_precision, max_num_imprecise_acc):
    product = np.matmul(_single(left), _single(right))
    return interpreter.TensorHandle(
        (product + added.data).astype(added.data.dtype), added.dtype.scalar
    )


def _rounding(builder, source, target):
    if (source.dtype.scalar, target.scalar) != (tl.float32, tl.bfloat16):
        return STOCK_TRUNCATION(builder, source, target)
    bits = np.ascontiguousarray(source.data).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    halves = np.where(np.isnan(source.data), 0x7FC0, rounded).astype(np.uint16)
    return interpreter.TensorHandle(halves, tl.bfloat16)


def _single(handle: interpreter.TensorHandle) -> np.ndarray:
    if handle.dtype.scalar == tl.bfloat16:
        return (handle.data.astype(np.uint32) << 16).view(np.float32)
    return handle.data.astype(np.float32)
