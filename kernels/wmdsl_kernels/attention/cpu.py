"""Executor `cpu`: the C++ kernels, in fp32 or bf16, for any head dim and head grouping.

B batch, T query tokens, S key tokens, H query heads, G key heads, K head dim.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch

from wmdsl_kernels import native, toolchain
from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.native import Place, place
from wmdsl_kernels.schedule import ScheduleBuffers, Tiling
from wmdsl_kernels.tensors import packed_like, unit_strided

JOINED_ROWS = 32
"""Steps of a token-causal mask are joined to so many queries, a depth of a bf16 tile."""


class _Problem(ctypes.Structure):
    """`struct Problem` of problem.h."""

    _fields_ = [
        *(
            (name, Place)
            for name in ("query", "key", "value", "output")
            + ("grad_output", "grad_query", "grad_key", "grad_value")
        ),
        *((name, ctypes.c_void_p) for name in ("lse", "grad_lse")),
        *((name, ctypes.c_void_p) for name in ("tiles", "pointers", "ranges", "limits")),
        *((name, ctypes.c_int64) for name in ("batch", "queries", "keys", "query_heads")),
        *((name, ctypes.c_int64) for name in ("key_heads", "head_dim", "blocks")),
        ("scale", ctypes.c_float),
        ("threads", ctypes.c_int32),
    ]


def missing() -> str | None:
    """Why this machine has no C++ kernels; None where it has."""
    return toolchain.missing()


def tiling(request: Request) -> Tiling:
    """Whole blocks, which C++ cuts by the sizes of its caches; short steps are joined."""
    return Tiling(joined_queries=JOINED_ROWS)


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: ScheduleBuffers,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, H, K] and LSE [B, H, T] in float32."""
    batch, length, heads, _ = query.shape
    output = packed_like(query)
    lse = torch.empty(batch, heads, length, dtype=torch.float32)
    problem = _problem(query, key, value, output, lse, schedule, scale)
    _run("forward", problem, query.dtype)
    return output, lse


def backward(
    grad_output: torch.Tensor,
    grad_lse: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    schedule: ScheduleBuffers,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value."""
    gradients = tuple(packed_like(tensor) for tensor in (query, key, value))
    problem = _problem(query, key, value, output, lse, schedule, scale)
    grad_output = unit_strided(grad_output)
    problem.grad_output = place(grad_output)
    problem.grad_query, problem.grad_key, problem.grad_value = map(place, gradients)
    if grad_lse is not None:
        grad_lse = grad_lse.contiguous()
        problem.grad_lse = grad_lse.data_ptr()
    _run("backward", problem, query.dtype)
    return gradients


@cache
def has_tiles() -> bool:
    """Whether bf16 runs on AMX tiles: the processor has them, the operating system grants them."""
    return bool(toolchain.library().attention_has_tiles())


def _run(direction: str, problem: _Problem, dtype: torch.dtype) -> None:
    """bf16 takes the tiles, which rely on a positive scale."""
    tiled = dtype == torch.bfloat16 and problem.scale > 0 and has_tiles()
    kind = "tiles" if tiled else native.DTYPES[dtype]
    native.run("attention", f"attention_{direction}_{kind}", problem)


def _problem(query, key, value, output, lse, schedule: ScheduleBuffers, scale: float) -> _Problem:
    _, tiles, pointers, ranges = schedule.rows
    batch, queries, query_heads, head_dim = query.shape
    return _Problem(
        query=place(query),
        key=place(key),
        value=place(value),
        output=place(output),
        lse=lse.data_ptr(),
        tiles=tiles.data_ptr(),
        pointers=pointers.data_ptr(),
        ranges=ranges.data_ptr(),
        limits=schedule.limits.data_ptr() if len(schedule.limits) else None,
        batch=batch,
        queries=queries,
        keys=key.shape[1],
        query_heads=query_heads,
        key_heads=key.shape[2],
        head_dim=head_dim,
        blocks=len(tiles),
        scale=scale,
        threads=torch.get_num_threads(),
    )
