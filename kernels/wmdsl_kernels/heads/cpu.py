"""Executor `cpu`: the C++ kernels, in fp32, fp16 or bf16.

B batch, T tokens, H query heads, G key heads, K head dim.
"""

from __future__ import annotations

import ctypes

import torch

from wmdsl_kernels import native
from wmdsl_kernels.heads import Projection
from wmdsl_kernels.native import NOWHERE, PLACE, Place, place, pool_place
from wmdsl_kernels.tensors import check_slots, packed_like, unit_strided

CHUNK = 64
"""Tokens whose share of the norms' gradients is added up together; that of heads.cpp."""


class _Stream(ctypes.Structure):
    """`struct Stream` of heads.cpp."""

    _fields_ = [
        *((name, PLACE) for name in ("projected", "grad_projected")),
        *((name, ctypes.c_void_p) for name in ("query_norm", "key_norm", "cos", "sin")),
        ("grad_norms", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("tokens", "first", "table_heads")),
        *((name, ctypes.c_int32) for name in ("query_across", "key_across")),
    ]


class _Problem(ctypes.Structure):
    """`struct Problem` of heads.cpp."""

    _fields_ = [
        ("streams", ctypes.c_void_p),
        *((name, PLACE) for name in ("query", "key", "value")),
        ("slots", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("batch", "count", "heads", "key_heads", "head_dim")),
        ("epsilon", ctypes.c_float),
        ("interleaved", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    ]


def forward(
    streams: list[Projection], heads: int, key_heads: int, interleaved: bool, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query [B, T, H, K], key and value [B, T, G, K] of all streams."""
    first = streams[0].heads
    tokens = sum(stream.heads.shape[1] for stream in streams)
    query, key, value = (
        first.new_empty((first.shape[0], tokens, count, first.shape[3]))
        for count in (heads, key_heads, key_heads)
    )
    places = [place(tensor) for tensor in (query, key, value)]
    _run("forward", streams, heads, key_heads, interleaved, epsilon, places)
    return query, key, value


def store(
    stream: Projection,
    heads: int,
    key_heads: int,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    interleaved: bool,
    epsilon: float,
) -> torch.Tensor:
    """Query [B, T, H, K]; keys and values are written to their slots of the pools."""
    check_slots(slots, key_pool)
    batch, tokens, _, width = stream.heads.shape
    query = stream.heads.new_empty((batch, tokens, heads, width))
    slots = slots.contiguous()
    places = [place(query), pool_place(key_pool), pool_place(value_pool)]
    _run("forward", [stream], heads, key_heads, interleaved, epsilon, places, slots=slots)
    return query


def backward(
    gradients: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    streams: list[Projection],
    heads: int,
    key_heads: int,
    interleaved: bool,
    epsilon: float,
) -> list[tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]]:
    """Per stream the gradients of its heads and its norms, given those of query, key and value."""
    gradients = tuple(map(unit_strided, gradients))
    found = [packed_like(stream.heads) for stream in streams]
    norms = [_norm_sums(stream, heads + key_heads) for stream in streams]
    places = [place(tensor) for tensor in gradients]
    shared = (heads, key_heads, interleaved, epsilon)
    _run("backward", streams, *shared, places, gradients=list(zip(found, norms, strict=True)))
    return [
        (grad, *norm_gradients(stream, sums.sum(dim=0), heads))
        for stream, grad, sums in zip(streams, found, norms, strict=True)
    ]


def norm_gradients(
    stream: Projection, sums: torch.Tensor, heads: int
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Gradients of both norm weights from sums [H + G, K] over batch and tokens."""
    parts = ((stream.query_norm, sums[:heads]), (stream.key_norm, sums[heads:]))
    # A copy, because an operator's results may not share memory.
    return tuple(
        None if weight is None else (part.clone() if weight.ndim == 2 else part.sum(0)).to(weight)
        for weight, part in parts
    )


def _norm_sums(stream: Projection, heads: int) -> torch.Tensor:
    """Shares of the norms' gradients [chunks, H + G, K], fp32 zeros; none without a norm."""
    batch, tokens, _, width = stream.heads.shape
    normed = stream.query_norm is not None or stream.key_norm is not None
    chunks = batch * -(-tokens // CHUNK) if normed else 0
    return torch.zeros(chunks, heads, width)


def _run(
    direction: str,
    streams: list[Projection],
    heads: int,
    key_heads: int,
    interleaved: bool,
    epsilon: float,
    places: list[Place],
    slots: torch.Tensor | None = None,
    gradients: list[tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> None:
    tables = [_tables(stream) for stream in streams]  # kept alive until the kernel returns
    described, first = [], 0
    for number, (stream, held) in enumerate(zip(streams, tables, strict=True)):
        described.append(_stream(stream, held, first, gradients and gradients[number]))
        first += stream.heads.shape[1]
    array = (_Stream * len(described))(*described)
    projected = streams[0].heads
    problem = _Problem(
        ctypes.addressof(array),
        *places,
        slots=None if slots is None else slots.data_ptr(),
        batch=projected.shape[0],
        count=len(streams),
        heads=heads,
        key_heads=key_heads,
        head_dim=projected.shape[3],
        epsilon=epsilon,
        interleaved=interleaved,
        threads=torch.get_num_threads(),
    )
    native.run("heads", f"heads_{direction}_{native.DTYPES[projected.dtype]}", problem)


def _stream(stream: Projection, held: list[torch.Tensor | None], first: int, gradient) -> _Stream:
    described = _Stream(
        place(stream.heads),
        NOWHERE,
        *(None if tensor is None else tensor.data_ptr() for tensor in held),
        tokens=stream.heads.shape[1],
        first=first,
        table_heads=stream.cos.shape[1] if stream.cos is not None and stream.cos.ndim == 3 else 1,
        query_across=stream.query_norm is not None and stream.query_norm.ndim == 2,
        key_across=stream.key_norm is not None and stream.key_norm.ndim == 2,
    )
    if gradient is not None:
        described.grad_projected = place(gradient[0])
        described.grad_norms = gradient[1].data_ptr()
    return described


def _tables(stream: Projection) -> list[torch.Tensor | None]:
    """Norm weights and rotary tables as the kernels read them: contiguous fp32."""
    _, *small = stream
    return [None if tensor is None else tensor.detach().float().contiguous() for tensor in small]
