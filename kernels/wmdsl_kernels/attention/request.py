"""The facts about one attention call that back ends accept or refuse."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wmdsl_kernels import errors
from wmdsl_kernels.schedule import Schedule

QUERY_LAYOUT = "[B, T, H, K] (batch, query tokens, heads, head dim)"
KEY_LAYOUT = "[B, S, G, K] (batch, key tokens, key heads, head dim)"


@dataclass(frozen=True)
class Request:
    """A checked call: shapes, dtype and device fit each other and the schedule."""

    device: torch.device
    dtype: torch.dtype
    batch: int
    query_length: int
    key_length: int
    query_heads: int
    key_heads: int
    head_dim: int
    schedule: Schedule | None
    needs_gradient: bool
    wants_lse: bool
    unit_stride: bool
    """Whether the head dim of all three tensors is contiguous."""

    @property
    def shared_range(self) -> tuple[int, int] | None:
        """The one key range that all queries see, or None."""
        return (0, self.key_length) if self.schedule is None else self.schedule.shared_range

    @property
    def longest_query_block(self) -> int:
        """The most queries that see the same keys and lie side by side."""
        if self.schedule is None:
            return self.query_length
        return max(stop - start for start, stop in self.schedule.rows.blocks)


def describe(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Schedule | None,
    wants_lse: bool,
) -> Request:
    """The request these tensors make; ArgumentError or ScheduleError where they do not fit."""
    _check_layouts(query, key, value)
    _check_schedule(query, key, schedule)
    tensors = (query, key, value)
    return Request(
        device=query.device,
        dtype=query.dtype,
        batch=query.shape[0],
        query_length=query.shape[1],
        key_length=key.shape[1],
        query_heads=query.shape[2],
        key_heads=key.shape[2],
        head_dim=query.shape[3],
        schedule=schedule,
        needs_gradient=torch.is_grad_enabled() and any(x.requires_grad for x in tensors),
        wants_lse=wants_lse,
        unit_stride=all(x.stride(3) == 1 for x in tensors),
    )


def _check_layouts(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
    for name, tensor, layout in (
        ("query", query, QUERY_LAYOUT),
        ("key", key, KEY_LAYOUT),
        ("value", value, KEY_LAYOUT),
    ):
        if tensor.ndim != 4:
            raise errors.wrong_rank(name, layout, tensor.shape)
        if tensor.device != query.device:
            raise errors.wrong_device(name, tensor.device, query.device)
        if tensor.dtype != query.dtype or not tensor.is_floating_point():
            raise errors.wrong_dtype(name, tensor.dtype, "one floating dtype for all three")
    batch, _, query_heads, head_dim = query.shape
    _, key_length, key_heads, _ = key.shape
    if key.shape[0] != batch or key.shape[3] != head_dim:
        raise errors.wrong_shape("key", f"[{batch}, S, G, {head_dim}]", key.shape)
    if value.shape != key.shape:
        expected = f"that of key, [{batch}, {key_length}, {key_heads}, {head_dim}]"
        raise errors.wrong_shape("value", expected, value.shape)
    if query_heads % key_heads:
        raise errors.heads_not_grouped(query_heads, key_heads)


def _check_schedule(query: torch.Tensor, key: torch.Tensor, schedule: Schedule | None) -> None:
    if schedule is None:
        return
    scheduled = (schedule.query_length, schedule.key_length)
    given = (query.shape[1], key.shape[1])
    if scheduled != given:
        raise errors.schedule_mismatch(scheduled, given)
