"""Joint and cached heads: checks, and the choice of the back end.

B batch, T tokens, H query heads, G key heads, K head dim, P slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wmdsl_kernels import errors
from wmdsl_kernels.backends import Call, cpu_refusal, never, triton_refusal
from wmdsl_kernels.choice import choose, verdicts
from wmdsl_kernels.heads import Projection, composed, naive
from wmdsl_kernels.heads.configurations import WIDEST, tile_width
from wmdsl_kernels.heads.operators import execute_cached, execute_joint
from wmdsl_kernels.tensors import check_kind

REFUSALS = {"cpu": cpu_refusal("heads"), "triton": triton_refusal(WIDEST), "torch": never}
"""What a call without `backend` chooses from, in this order; `naive` runs only when named."""


def join(
    streams: Sequence[Projection],
    heads: int,
    key_heads: int,
    interleaved: bool,
    epsilon: float,
    backend: str | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`wmdsl_kernels.joint_heads`."""
    streams = _checked(streams, heads, key_heads)
    name = choose(REFUSALS, _call(streams, heads), backend)
    if name == "torch":
        return composed.joint_heads(streams, heads, key_heads, interleaved, epsilon)
    if name == "naive":
        exact = naive.naive_joint_heads(streams, heads, key_heads, interleaved, epsilon)
        query, key, value = (part.to(streams[0].heads.dtype) for part in exact)
        return query, key, value
    return execute_joint(streams, heads, key_heads, interleaved, epsilon, name)


def turn(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    interleaved: bool,
    backend: str | None,
) -> torch.Tensor:
    """`wmdsl_kernels.rotated_heads`: the query heads of a stream without keys."""
    if x.ndim != 4:
        raise errors.wrong_rank("x", "[B, T, H, K]", x.shape)
    stream = Projection(x, cos=cos, sin=sin)
    return join([stream], x.shape[2], 0, interleaved, 0.0, backend)[0]


def store(
    stream: Projection,
    heads: int,
    key_heads: int,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    interleaved: bool,
    epsilon: float,
    backend: str | None,
) -> torch.Tensor:
    """`wmdsl_kernels.cached_heads`."""
    streams = _checked([stream], heads, key_heads)
    _check_cache(stream.heads, key_heads, key_pool, value_pool, slots)
    name = choose(REFUSALS, _call(streams, heads, key_pool, value_pool), backend)
    pools = (key_pool, value_pool, slots)
    with torch.no_grad():
        if name in ("torch", "naive"):
            shared = (interleaved, epsilon)
            return composed.cached_heads(stream, heads, key_heads, *pools, *shared)
        return execute_cached(stream, heads, key_heads, *pools, interleaved, epsilon, name)


def explain(
    streams: Sequence[Projection], heads: int, key_heads: int
) -> list[tuple[str, bool, str]]:
    """`wmdsl_kernels.heads.explain_heads`."""
    return verdicts(REFUSALS, _call(_checked(streams, heads, key_heads), heads))


def _call(streams: list[Projection], heads: int, *pools: torch.Tensor) -> Call:
    first = streams[0].heads
    packed = all(
        stream.heads.stride(3) == 1 and stream.heads.stride(2) == first.shape[3]
        for stream in streams
    )
    unit = packed and all(pool.stride(2) == 1 for pool in pools)
    return Call(first.device, first.dtype, tile_width(heads, first.shape[3]), unit)


def _checked(streams: Sequence[Projection], heads: int, key_heads: int) -> list[Projection]:
    """The streams, once all shapes, dtypes and devices fit."""
    if not streams:
        raise errors.no_streams()
    if key_heads and heads % key_heads:
        raise errors.heads_not_grouped(heads, key_heads)
    first = streams[0].heads
    for number, stream in enumerate(streams):
        _check_projection(f"heads of stream {number}", stream.heads, first, heads + 2 * key_heads)
        _check_norms(number, stream, heads, key_heads)
        _check_tables(number, stream, heads, key_heads)
    return list(streams)


def _check_projection(name: str, found: torch.Tensor, first: torch.Tensor, rows: int) -> None:
    if found.ndim != 4:
        raise errors.wrong_rank(name, "[B, T, H + 2 G, K]", found.shape)
    if found.shape[3] % 2:
        raise errors.odd_head_dim(found.shape[3])
    expected = [first.shape[0], found.shape[1], rows, first.shape[3]]
    if list(found.shape) != expected:
        raise errors.wrong_shape(name, str(expected), found.shape)
    check_kind(name, found, first)


def _check_norms(number: int, stream: Projection, heads: int, key_heads: int) -> None:
    width = stream.heads.shape[3]
    pairs = (("query_norm", stream.query_norm, heads), ("key_norm", stream.key_norm, key_heads))
    for name, weight, count in pairs:
        if weight is not None and list(weight.shape) not in ([width], [count, width]):
            expected = f"[{width}] or [{count}, {width}]"
            raise errors.wrong_shape(f"{name} of stream {number}", expected, weight.shape)
        _check_place(f"{name} of stream {number}", weight, stream.heads.device)


def _check_tables(number: int, stream: Projection, heads: int, key_heads: int) -> None:
    tables = (("cos", stream.cos), ("sin", stream.sin))
    if (stream.cos is None) != (stream.sin is None):
        raise errors.lone_table(number)
    if stream.cos is None:
        return
    _, tokens, _, width = stream.heads.shape
    for name, table in tables:
        name = f"{name} of stream {number}"
        if list(table.shape) not in ([tokens, width // 2], [tokens, heads, width // 2]):
            expected = f"[{tokens}, {width // 2}] or [{tokens}, {heads}, {width // 2}]"
            raise errors.wrong_shape(name, expected, table.shape)
        if table.requires_grad:
            raise errors.gradient_of_table(name)
        _check_place(name, table, stream.heads.device)
    if stream.cos.shape != stream.sin.shape:
        raise errors.wrong_shape(f"sin of stream {number}", "that of cos", stream.sin.shape)
    if stream.cos.ndim == 3 and key_heads not in (0, heads):
        raise errors.tables_per_head(heads, key_heads)


def _check_place(name: str, tensor: torch.Tensor | None, device: torch.device) -> None:
    if tensor is None:
        return
    if tensor.device != device:
        raise errors.wrong_device(name, tensor.device, device)
    if not tensor.is_floating_point():
        raise errors.wrong_dtype(name, tensor.dtype, "a floating dtype")


def _check_cache(heads, key_heads: int, key_pool, value_pool, slots) -> None:
    row = [key_heads, heads.shape[3]]
    for name, pool in (("key_pool", key_pool), ("value_pool", value_pool)):
        if pool.ndim != 3 or list(pool.shape[1:]) != row or pool.shape != key_pool.shape:
            expected = f"[P, {key_heads}, {heads.shape[3]}], both pools alike"
            raise errors.wrong_shape(name, expected, pool.shape)
        check_kind(name, pool, heads)
    if slots.dtype != torch.int32:
        raise errors.wrong_dtype("slots", slots.dtype, "torch.int32")
    if slots.device != heads.device:
        raise errors.wrong_device("slots", slots.device, heads.device)
    if slots.shape != heads.shape[:2]:
        raise errors.wrong_shape("slots", str(list(heads.shape[:2])), slots.shape)
