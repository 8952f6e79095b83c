"""Executor `cpu`: the C++ kernels, in fp32, fp16 or bf16. B batch, T tokens, W width, R runs."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import torch

from wmdsl_kernels import native
from wmdsl_kernels.tensors import packed_like, unit_strided


class _Rows(ctypes.Structure):
    """`struct Rows` of adaln.cpp."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("token", ctypes.c_int64),
    ]


class _Problem(ctypes.Structure):
    """`struct Problem` of adaln.cpp."""

    _fields_ = [
        *((name, _Rows) for name in ("x", "change", "shift", "scale", "output", "grad_output")),
        *((name, _Rows) for name in ("grad_x", "grad_change", "grad_shift", "grad_scale")),
        ("statistics", ctypes.c_void_p),
        ("borders", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("batch", "tokens", "runs", "width")),
        ("epsilon", ctypes.c_float),
        ("centred", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    ]


def norm_forward(
    x: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor,
    lengths: Sequence[int],
    centred: bool,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, W], and per token the mean and the reciprocal deviation [B, T, 2] in fp32."""
    output = packed_like(x)
    statistics = torch.empty(*x.shape[:2], 2, dtype=torch.float32)
    rows = dict(x=x, shift=shift, scale=scale, output=output)
    _run("norm_forward", rows, lengths, statistics=statistics, centred=centred, epsilon=epsilon)
    return output, statistics


def norm_backward(
    grad_output: torch.Tensor,
    x: torch.Tensor,
    scale: torch.Tensor,
    statistics: torch.Tensor,
    lengths: Sequence[int],
    centred: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of x [B, T, W], shift and scale [B, R, W]."""
    grad_x = packed_like(x)
    grad_shift, grad_scale = packed_like(scale), packed_like(scale)
    rows = dict(x=x, scale=scale, grad_output=unit_strided(grad_output), grad_x=grad_x)
    rows |= dict(grad_shift=grad_shift, grad_scale=grad_scale)
    _run("norm_backward", rows, lengths, statistics=statistics, centred=centred)
    return grad_x, grad_shift, grad_scale


def gate_forward(
    x: torch.Tensor, change: torch.Tensor, gate: torch.Tensor, lengths: Sequence[int]
) -> torch.Tensor:
    """Output [B, T, W]."""
    output = packed_like(x)
    _run("gate_forward", dict(x=x, change=change, scale=gate, output=output), lengths)
    return output


def gate_backward(
    grad_output: torch.Tensor, change: torch.Tensor, gate: torch.Tensor, lengths: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of change [B, T, W] and gate [B, R, W]."""
    grad_change = packed_like(change)
    grad_gate = packed_like(gate)
    rows = dict(change=change, scale=gate, grad_output=unit_strided(grad_output))
    _run("gate_backward", rows | dict(grad_change=grad_change, grad_scale=grad_gate), lengths)
    return grad_change, grad_gate


def _run(
    name: str,
    rows: dict[str, torch.Tensor],
    lengths: Sequence[int],
    statistics: torch.Tensor | None = None,
    centred: bool = False,
    epsilon: float = 0.0,
) -> None:
    tokens = rows.get("output", rows.get("grad_output"))
    problem = _Problem(
        **{place: _Rows(t.data_ptr(), *t.stride()[:2]) for place, t in rows.items()},
        statistics=None if statistics is None else statistics.data_ptr(),
        borders=ctypes.addressof(_borders(tuple(lengths))),
        batch=tokens.shape[0],
        tokens=tokens.shape[1],
        runs=len(lengths),
        width=tokens.shape[2],
        epsilon=epsilon,
        centred=centred,
        threads=torch.get_num_threads(),
    )
    native.run("adaln", f"{name}_{native.DTYPES[tokens.dtype]}", problem)


@lru_cache(maxsize=1024)
def _borders(lengths: tuple[int, ...]) -> ctypes.Array:
    """The tokens where runs begin and end, as int64."""
    edges = [0]
    for length in lengths:
        edges.append(edges[-1] + length)
    return (ctypes.c_int64 * len(edges))(*edges)
