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
from wmdsl_kernels.native import NOWHERE, Place, place, pool_place
from wmdsl_kernels.schedule import ScheduleBuffers, Tiling
from wmdsl_kernels.tensors import packed_like, unit_strided

JOINED_ROWS = 32
"""Steps of a token-causal mask are joined to so many queries, a depth of a bf16 tile."""


_PROBLEM = struct.Struct("@32q7P7qfi")
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
    places = [*map(place, (query, key, value, output)), *4 * [NOWHERE]]
    _run("forward", query, key.shape[1:3], places, lse, scale, schedule)
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
    _run("backward", query, key.shape[1:3], places, lse, scale, schedule, grad_lse)
    return gradients


def decode(
    query: torch.Tensor,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and LSE of query over the rows of pools [P, G, K] that `slots` [B, S] names."""
    batch, length, heads, _ = query.shape
    output = packed_like(query)
    lse = torch.empty(batch, heads, length, dtype=torch.float32)
    pools = map(pool_place, (key_pool, value_pool))
    places = [place(query), *pools, place(output), *4 * [NOWHERE]]
    sizes = slots.shape[1], key_pool.shape[1]
    _run("decode", query, sizes, places, lse, scale, slots=slots.contiguous())
    return output, lse


@cache
def has_tiles() -> bool:
    """Whether bf16 runs on AMX tiles: the processor has them, the operating system grants them."""
    return bool(toolchain.library().attention_has_tiles())


def _address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


def _run(
    direction: str,
    query: torch.Tensor,
    key_sizes: tuple[int, int],
    places: list[Place],
    lse: torch.Tensor,
    scale: float,
    schedule: ScheduleBuffers | None = None,
    grad_lse: torch.Tensor | None = None,
    slots: torch.Tensor | None = None,
) -> None:
    """`key_sizes` are keys and key heads; a schedule or `slots` says which keys are seen."""
    batch, queries, heads, head_dim = query.shape
    keys, key_heads = key_sizes
    blocks, tables = 0, (None, None, None, None)
    if schedule is not None:
        tables = (*schedule.rows[1:], schedule.limits)
        blocks = tables[0].shape[0]
    problem = _PROBLEM.pack(
        *chain.from_iterable(places),
        *map(_address, (lse, grad_lse, *tables, slots)),
        *(batch, queries, keys, heads, key_heads, head_dim, blocks),
        scale,
        torch.get_num_threads(),
    )
    # bf16 takes the tiles, which rely on a positive scale.
    tiled = query.dtype == torch.bfloat16 and scale > 0 and has_tiles()
    kind = "tiles" if tiled else native.DTYPES[query.dtype]
    native.run("attention", f"attention_{direction}_{kind}", problem)
