"""From projections to attention: norm of queries and keys, rotary positions, and their place.

In: per stream one projection to all query, key and value heads, norm weights, a rotary table.
Out: query, key and value of all streams end to end, or rows of a cache at given slots.
Invariant: a back end computes the same function or refuses with a reason.

Importing this loads no torch. B batch, T tokens, H query heads, G key heads, K head dim, P slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Projection(NamedTuple):
    """What one stream brings to attention."""

    heads: torch.Tensor
    """[B, T, H + 2 G, K]: its query heads, then its key heads, then its value heads."""
    query_norm: torch.Tensor | None = None
    """Weight of the RMS norm of queries: [K] per head, [H, K] across all heads, None without."""
    key_norm: torch.Tensor | None = None
    """That of keys: [K], [G, K] or None."""
    cos: torch.Tensor | None = None
    """Cosines of the angles of the channel pairs, [T, K / 2], or [T, H, K / 2] where heads differ
    (then G is H); None leaves queries and keys unturned. `angles.py` makes angles."""
    sin: torch.Tensor | None = None


def joint_heads(
    streams: Sequence[Projection],
    heads: int,
    key_heads: int,
    *,
    interleaved: bool = False,
    epsilon: float = 1e-6,
    backend: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query [B, T, H, K], key and value [B, T, G, K] of all streams, one after the other.

    Queries and keys are RMS-normalised, then each pair of channels is turned: the channels k and
    k + K / 2, or 2 k and 2 k + 1 where `interleaved`. There may be no key heads.
    Norm weights and tables may have another floating dtype than the heads. Differentiable once, but
    for the tables. Raises ArgumentError for what does not fit, and DispatchError where the named
    back end refuses.
    """
    from wmdsl_kernels.heads.dispatch import join

    return join(streams, heads, key_heads, interleaved, epsilon, backend)


def rotated_heads(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    interleaved: bool = False,
    backend: str | None = None,
) -> torch.Tensor:
    """Heads [B, T, H, K] whose pairs of channels are turned, contiguous.

    Pairs, tables and errors as in `joint_heads`, of which this is the case of queries alone.
    """
    from wmdsl_kernels.heads.dispatch import turn

    return turn(x, cos, sin, interleaved, backend)


def cached_heads(
    stream: Projection,
    heads: int,
    key_heads: int,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    *,
    interleaved: bool = False,
    epsilon: float = 1e-6,
    backend: str | None = None,
) -> torch.Tensor:
    """Query [B, T, H, K] of a stream whose keys and values go into a cache, without a gradient.

    Key and value of token t of sample b are written to row `slots[b, t]` of key_pool and value_pool
    [P, G, K]; slots int32 [B, T], -1 where a token is not kept, and no slot twice. A cache
    [B, S, G, K] is such a pool through `view(B * S, G, K)`. Norms, angles and errors as in
    `joint_heads`. A slot beyond the pool raises ArgumentError on a CPU; the kernels of a GPU do not
    check it, for that would wait for the device.
    """
    from wmdsl_kernels.heads.dispatch import store

    pools = (key_pool, value_pool)
    return store(stream, heads, key_heads, *pools, slots, interleaved, epsilon, backend)


def explain_heads(
    streams: Sequence[Projection], heads: int, key_heads: int
) -> list[tuple[str, bool, str]]:
    """(back end, whether it accepts, why not) in the order of preference; meta tensors will do."""
    from wmdsl_kernels.heads.dispatch import explain

    return explain(streams, heads, key_heads)


__all__ = ["Projection", "cached_heads", "explain_heads", "joint_heads", "rotated_heads"]
