"""From tensors to the facts that back ends accept or refuse a call by."""

from __future__ import annotations

import torch

from wmdsl_kernels import errors
from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.schedule import Schedule
from wmdsl_kernels.tensors import capability, check_kind, is_traced, processors

QUERY_LAYOUT = "[B, T, H, K] (batch, query tokens, heads, head dim)"
KEY_LAYOUT = "[B, S, G, K] (batch, key tokens, key heads, head dim)"


def describe(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Schedule | None,
    wants_lse: bool,
) -> Request:
    """The request these tensors make; ArgumentError or ScheduleError where they do not fit."""
    check_layouts(query, key, value)
    _check_schedule(query, key, schedule)
    tensors = (query, key, value)
    return Request(
        device=query.device.type,
        dtype=str(query.dtype).removeprefix("torch."),
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
        capability=capability(query.device) if query.is_cuda else None,
        processors=processors(query.device) if query.is_cuda else None,
        traced=is_traced(query),
    )


def check_layouts(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
    """ArgumentError where the three do not fit each other."""
    for name, tensor, layout in (
        ("query", query, QUERY_LAYOUT),
        ("key", key, KEY_LAYOUT),
        ("value", value, KEY_LAYOUT),
    ):
        if tensor.ndim != 4:
            raise errors.wrong_rank(name, layout, tensor.shape)
        check_kind(name, tensor, query)
    batch, _, query_heads, head_dim = query.shape
    _, key_length, key_heads, _ = key.shape
    if key.shape[0] != batch or key.shape[3] != head_dim:
        raise errors.wrong_shape("key", f"[{batch}, S, G, {head_dim}]", key.shape)
    if value.shape != key.shape:
        expected = f"that of key, [{batch}, {key_length}, {key_heads}, {head_dim}]"
        raise errors.wrong_shape("value", expected, value.shape)
    check_heads(query, key_heads)


def check_heads(query: torch.Tensor, key_heads: int) -> None:
    """ArgumentError where a query [B, T, H, K] has no heads, or none for each key head."""
    *_, query_heads, head_dim = query.shape
    if query_heads == 0 or head_dim == 0:
        raise errors.wrong_shape("query", "[B, T, H, K] with H and K at least 1", query.shape)
    if key_heads == 0 or query_heads % key_heads:
        raise errors.heads_not_grouped(query_heads, key_heads)


def _check_schedule(query: torch.Tensor, key: torch.Tensor, schedule: Schedule | None) -> None:
    if schedule is None:
        return
    scheduled = (schedule.query_length, schedule.key_length)
    given = (query.shape[1], key.shape[1])
    if scheduled != given:
        raise errors.schedule_mismatch(scheduled, given)
