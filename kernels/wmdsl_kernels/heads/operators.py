"""The executors as differentiable functions: eager, and as `torch.library` operators for tracers.

Operators take the streams as lists, one per field of a Projection; an empty tensor stands for an
absent one. B batch, T tokens, H query heads, G key heads, K head dim, P slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wmdsl_kernels.heads import Projection, cpu, triton_executor
from wmdsl_kernels.tensors import is_traced, packed_like

EXECUTORS = {"cpu": cpu, "triton": triton_executor}
FIELDS = len(Projection._fields)


def execute_joint(
    streams: list[Projection],
    heads: int,
    key_heads: int,
    interleaved: bool,
    epsilon: float,
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value of all streams by the named executor, differentiable."""
    constants = (heads, key_heads, interleaved, epsilon, executor)
    if is_traced(streams[0].heads):
        return joint_heads_forward(*_columns(streams), *constants)
    return _EagerJoint.apply(constants, *(tensor for stream in streams for tensor in stream))


def execute_cached(
    stream: Projection,
    heads: int,
    key_heads: int,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    interleaved: bool,
    epsilon: float,
    executor: str,
) -> torch.Tensor:
    """Query by the named executor; keys and values go to their slots."""
    shared = (heads, key_heads, key_pool, value_pool, slots, interleaved, epsilon)
    if is_traced(stream.heads):
        columns = (column[0] for column in _columns([stream]))
        return cached_heads_forward(*columns, *shared, executor)
    return EXECUTORS[executor].store(stream, *shared)


class _EagerJoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, constants, *tensors):
        ctx.save_for_backward(*tensors)
        ctx.constants = constants
        *shared, executor = constants
        return EXECUTORS[executor].forward(_streams(tensors), *shared)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):
        *shared, executor = ctx.constants
        streams = _streams(ctx.saved_tensors)
        found = EXECUTORS[executor].backward(gradients, streams, *shared)
        return None, *(part for three in found for part in (*three, None, None))


@torch.library.custom_op("wmdsl_kernels::joint_heads_forward", mutates_args=())
def joint_heads_forward(
    projections: Sequence[torch.Tensor],
    query_norms: Sequence[torch.Tensor],
    key_norms: Sequence[torch.Tensor],
    cosines: Sequence[torch.Tensor],
    sines: Sequence[torch.Tensor],
    heads: int,
    key_heads: int,
    interleaved: bool,
    epsilon: float,
    executor: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query [B, T, H, K], key and value [B, T, G, K]."""
    streams = _rows(projections, query_norms, key_norms, cosines, sines)
    return EXECUTORS[executor].forward(streams, heads, key_heads, interleaved, epsilon)


@torch.library.custom_op("wmdsl_kernels::joint_heads_backward", mutates_args=())
def joint_heads_backward(
    grad_query: torch.Tensor,
    grad_key: torch.Tensor,
    grad_value: torch.Tensor,
    projections: Sequence[torch.Tensor],
    query_norms: Sequence[torch.Tensor],
    key_norms: Sequence[torch.Tensor],
    cosines: Sequence[torch.Tensor],
    sines: Sequence[torch.Tensor],
    heads: int,
    key_heads: int,
    interleaved: bool,
    epsilon: float,
    executor: str,
) -> list[torch.Tensor]:
    """Gradients of all projections, then of all query norms, then of all key norms."""
    streams = _rows(projections, query_norms, key_norms, cosines, sines)
    gradients = (grad_query, grad_key, grad_value)
    shared = (heads, key_heads, interleaved, epsilon)
    found = EXECUTORS[executor].backward(gradients, streams, *shared)
    return [
        projections[0].new_empty(0) if part is None else part
        for column in zip(*found, strict=True)
        for part in column
    ]


@torch.library.custom_op(
    "wmdsl_kernels::cached_heads_forward", mutates_args=("key_pool", "value_pool")
)
def cached_heads_forward(
    projection: torch.Tensor,
    query_norm: torch.Tensor,
    key_norm: torch.Tensor,
    cosine: torch.Tensor,
    sine: torch.Tensor,
    heads: int,
    key_heads: int,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    interleaved: bool,
    epsilon: float,
    executor: str,
) -> torch.Tensor:
    """Query [B, T, H, K]; key_pool and value_pool are written."""
    (stream,) = _rows([projection], [query_norm], [key_norm], [cosine], [sine])
    shared = (heads, key_heads, key_pool, value_pool, slots, interleaved, epsilon)
    return EXECUTORS[executor].store(stream, *shared)


@joint_heads_forward.register_fake
def _joint_shapes(
    projections, query_norms, key_norms, cosines, sines, heads, key_heads, interleaved, *_
):
    first = projections[0]
    tokens = sum(projection.shape[1] for projection in projections)
    return tuple(
        first.new_empty((first.shape[0], tokens, count, first.shape[3]))
        for count in (heads, key_heads, key_heads)
    )


@joint_heads_backward.register_fake
def _joint_gradient_shapes(
    grad_query, grad_key, grad_value, projections, query_norms, key_norms, *_
):
    columns = (*projections, *query_norms, *key_norms)
    return [packed_like(tensor) for tensor in columns]


@cached_heads_forward.register_fake
def _cached_shapes(projection, query_norm, key_norm, cosine, sine, heads, *_):
    batch, tokens, _, width = projection.shape
    return projection.new_empty((batch, tokens, heads, width))


def _save(ctx, inputs, output):
    *columns, ctx.heads, ctx.key_heads, ctx.interleaved, ctx.epsilon, ctx.executor = inputs
    ctx.save_for_backward(*(tensor for column in columns for tensor in column))


def _differentiate(ctx, *gradients):
    saved = ctx.saved_tensors
    count = len(saved) // FIELDS
    columns = [list(saved[at : at + count]) for at in range(0, len(saved), count)]
    constants = (ctx.heads, ctx.key_heads, ctx.interleaved, ctx.epsilon, ctx.executor)
    flat = joint_heads_backward(*gradients, *columns, *constants)
    found = [flat[at : at + count] for at in range(0, len(flat), count)]
    norms = [_present(column, grads) for column, grads in zip(columns[1:3], found[1:], strict=True)]
    return found[0], *norms, [None] * count, [None] * count, None, None, None, None, None


joint_heads_forward.register_autograd(_differentiate, setup_context=_save)


def _present(tensors, gradients):
    pairs = zip(tensors, gradients, strict=True)
    return [gradient if tensor.numel() else None for tensor, gradient in pairs]


def _streams(tensors: Sequence[torch.Tensor | None]) -> list[Projection]:
    """Streams whose fields lie one after the other."""
    return [Projection(*tensors[at : at + FIELDS]) for at in range(0, len(tensors), FIELDS)]


def _columns(streams: list[Projection]) -> list[list[torch.Tensor]]:
    """One list per field, with empty tensors where it is absent."""
    empty = streams[0].heads.new_zeros(0)
    filled = [[empty if tensor is None else tensor for tensor in stream] for stream in streams]
    return [list(column) for column in zip(*filled, strict=True)]


def _rows(*columns: Sequence[torch.Tensor]) -> list[Projection]:
    """The streams back from one list per field."""
    return [
        Projection(*(tensor if tensor.numel() else None for tensor in stream))
        for stream in zip(*columns, strict=True)
    ]
