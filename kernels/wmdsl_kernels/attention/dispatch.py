"""The choice of the back end that honours a call, and the call itself."""

from __future__ import annotations

import torch

from wmdsl_kernels.attention import dense, flex, naive, xformers_attention
from wmdsl_kernels.attention.describe import describe
from wmdsl_kernels.attention.executors import EXECUTORS
from wmdsl_kernels.attention.operators import execute
from wmdsl_kernels.attention.refusals import MANY_ROWS, preferred, refusals
from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.choice import choose, verdicts
from wmdsl_kernels.schedule import Schedule, ScheduleBuffers
from wmdsl_kernels.tensors import autocast

LIBRARIES = {"sdpa": dense, "flex": flex, "xformers": xformers_attention}
"""Back ends that bring their own gradient: modules with `missing()` and `attend(...)`."""


def _missing(name: str) -> str | None:
    module = LIBRARIES.get(name) or EXECUTORS[name]
    return module.missing()


REFUSALS = refusals(_missing)


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
    request = describe(query, key, value, schedule, return_lse)
    name = choose(_refusals(request), request, backend)
    scale = request.head_dim**-0.5 if scale is None else scale
    output, lse = _run(name, query, key, value, request, scale)
    return (output, lse) if return_lse else output


def _is_plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether torch's own attention has no rival where every query sees every key, and nothing is
    wrong with the call: at a glance, for in a small call every look counts."""
    if not query.ndim == key.ndim == 4 or key.shape != value.shape:
        return False
    batch, length, heads, head_dim = query.shape
    key_batch, _, key_heads, key_dim = key.shape
    return (
        (batch, head_dim) == (key_batch, key_dim)
        and key_heads > 0
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


def _run(name, query, key, value, request: Request, scale: float):
    if name in LIBRARIES:
        return LIBRARIES[name].attend(query, key, value, request, scale)
    if name == "naive":
        output, lse = naive.naive_attention(query, key, value, request.schedule, scale)
        return output.to(query.dtype), lse
    return execute(query, key, value, _buffers(request, query.device, name), scale, name)


def _buffers(request: Request, device: torch.device, executor: str) -> ScheduleBuffers:
    schedule = request.schedule or Schedule.dense(request.query_length, request.key_length)
    return schedule.buffers(device, EXECUTORS[executor].tiling(request))
