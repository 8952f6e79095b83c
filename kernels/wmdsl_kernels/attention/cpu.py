"""Executor `cpu`: the C++ kernels, in fp32, fp16 or bf16, for any head dim and head grouping.

B batch, T query tokens, S key tokens, H query heads, G key heads, K head dim.
"""

from __future__ import annotations

import struct
from functools import cache
from itertools import chain

import torch

from wmdsl_kernels import native, toolchain
from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.native import NOWHERE, Place, place
from wmdsl_kernels.schedule import ScheduleBuffers, Tiling
from wmdsl_kernels.tensors import packed_like, unit_strided

JOINED_ROWS = 32
"""Steps of a token-causal mask are joined to so many queries, a depth of a bf16 tile."""


_PROBLEM = struct.Struct("@32q6P7qfi")
"""`struct Problem` of problem.h: eight tensors, pointers, sizes, scale and threads.

Packed into bytes: to fill a ctypes structure takes three times as long, which small calls notice.
"""


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
    places = map(place, (query, key, value, output))
    _run("forward", query, key, [*places, *4 * [NOWHERE]], lse, None, schedule, scale)
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
    grad_output = unit_strided(grad_output)
    grad_lse = None if grad_lse is None else grad_lse.contiguous()
    places = [*map(place, (query, key, value, output, grad_output, *gradients))]
    _run("backward", query, key, places, lse, grad_lse, schedule, scale)
    return gradients


@cache
def has_tiles() -> bool:
    """Whether bf16 runs on AMX tiles: the processor has them, the operating system grants them."""
    return bool(toolchain.library().attention_has_tiles())


def _run(
    direction: str,
    query: torch.Tensor,
    key: torch.Tensor,
    places: list[Place],
    lse: torch.Tensor,
    grad_lse: torch.Tensor | None,
    schedule: ScheduleBuffers,
    scale: float,
) -> None:
    _, tiles, pointers, ranges = schedule.rows
    limits = schedule.limits
    batch, queries, heads, head_dim = query.shape
    _, keys, key_heads, _ = key.shape
    problem = _PROBLEM.pack(
        *chain.from_iterable(places),
        lse.data_ptr(),
        0 if grad_lse is None else grad_lse.data_ptr(),
        tiles.data_ptr(),
        pointers.data_ptr(),
        ranges.data_ptr(),
        limits.data_ptr() if limits.numel() else 0,
        *(batch, queries, keys, heads, key_heads, head_dim, tiles.shape[0]),
        scale,
        torch.get_num_threads(),
    )
    # bf16 takes the tiles, which rely on a positive scale.
    tiled = query.dtype == torch.bfloat16 and scale > 0 and has_tiles()
    kind = "tiles" if tiled else native.DTYPES[query.dtype]
    native.run("attention", f"attention_{direction}_{kind}", problem)
