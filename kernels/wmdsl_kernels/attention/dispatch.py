"""The choice of the back end that honours a call, and the call itself."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import torch

from wmdsl_kernels.attention import dense, flex, naive, xformers_attention
from wmdsl_kernels.attention.describe import describe
from wmdsl_kernels.attention.executors import EXECUTORS
from wmdsl_kernels.attention.operators import execute
from wmdsl_kernels.attention.refusals import MANY_ROWS, preferred, refusals
from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.choice import choose, verdicts
from wmdsl_kernels.schedule import Schedule, Tiling
from wmdsl_kernels.tensors import autocast, is_traced

LIBRARIES = {"sdpa": dense, "flex": flex, "xformers": xformers_attention}
"""Back ends that bring their own gradient: modules with `missing()` and `attend(...)`."""


def _missing(name: str) -> str | None:
    module = LIBRARIES.get(name) or EXECUTORS[name]
    return module.missing()


REFUSALS = refusals(_missing)


class _Prepared(NamedTuple):
    """What a call needs beyond its tensors; executors read `schedule` as `tiling` cuts it."""

    backend: str
    request: Request
    schedule: Schedule
    tiling: Tiling | None


_PREPARED: dict[Hashable, _Prepared] = {}
"""A program makes the same few calls over and over: what they need is found once, for finding it
takes longer than the rest of a small call."""

MOST_PREPARED = 1024


def _refusals(request: Request):
    """What a call without `backend` chooses from, in this order; `naive` runs only when named."""
    return {name: REFUSALS[name] for name in preferred(request)}


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Schedule | None,
    scale: float | None,
    return_lse: bool,
    backend: str | None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """`wmdsl_kernels.attention`."""
    if schedule is None and backend is None and not return_lse and _is_plain(query, key, value):
        return dense.attend_all(query, key, value, scale)
    query, key, value = autocast(query, key, value)
    prepared = _prepared(query, key, value, schedule, return_lse, backend)
    scale = query.shape[3] ** -0.5 if scale is None else scale
    output, lse = _run(prepared, query, key, value, scale)
    return (output, lse) if return_lse else output


def _prepared(query, key, value, schedule, return_lse, backend) -> _Prepared:
    """Remembered, but for what tracers build: their sizes may be symbols."""
    if is_traced(query):
        return _prepare(query, key, value, schedule, return_lse, backend)
    gradient = torch.is_grad_enabled() and (
        query.requires_grad or key.requires_grad or value.requires_grad
    )
    call = (_facts(query), _facts(key), _facts(value), schedule, return_lse, backend, gradient)
    found = _PREPARED.get(call)
    if found is None:
        if len(_PREPARED) >= MOST_PREPARED:
            _PREPARED.clear()
        found = _PREPARED[call] = _prepare(query, key, value, schedule, return_lse, backend)
    return found


def _facts(tensor: torch.Tensor) -> Hashable:
    """All that `describe` asks of a tensor, but for its gradient."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _prepare(query, key, value, schedule, return_lse, backend) -> _Prepared:
    request = describe(query, key, value, schedule, return_lse)
    name = choose(_refusals(request), request, backend)
    whole = schedule or Schedule.dense(request.query_length, request.key_length)
    tiling = EXECUTORS[name].tiling(request) if name in EXECUTORS else None
    return _Prepared(name, request, whole, tiling)


def _is_plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether torch's own attention has no rival where every query sees every key, and nothing is
    wrong with the call: at a glance, for in a small call every look counts."""
    if not query.ndim == key.ndim == 4 or key.shape != value.shape:
        return False
    batch, length, heads, head_dim = query.shape
    key_batch, key_length, key_heads, key_dim = key.shape
    return (
        (batch, head_dim) == (key_batch, key_dim)
        and 0 not in (length, key_length, heads, key_heads, head_dim)
        and heads % key_heads == 0
        and (batch * length * heads < MANY_ROWS or not query.is_cpu)
        and query.dtype == key.dtype == value.dtype
        and query.device == key.device == value.device
        and query.is_floating_point()
    )


def explain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Schedule | None,
    return_lse: bool,
) -> list[tuple[str, bool, str]]:
    """`wmdsl_kernels.explain_dispatch`."""
    query, key, value = autocast(query, key, value)
    request = describe(query, key, value, schedule, return_lse)
    return verdicts(_refusals(request), request)


def _run(prepared: _Prepared, query, key, value, scale: float):
    name, request, schedule, tiling = prepared
    if name in LIBRARIES:
        return LIBRARIES[name].attend(query, key, value, request, scale)
    if name == "naive":
        output, lse = naive.naive_attention(query, key, value, request.schedule, scale)
        return output.to(query.dtype), lse
    return execute(query, key, value, schedule.buffers(query.device, tiling), scale, name)
