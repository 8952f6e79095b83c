"""The choice of the back end that honours a call, and the call itself."""

from __future__ import annotations

import torch

from wmdsl_kernels import errors
from wmdsl_kernels.attention import dense, flex, naive, xformers_attention
from wmdsl_kernels.attention.describe import check_layouts, describe
from wmdsl_kernels.attention.executors import EXECUTORS
from wmdsl_kernels.attention.operators import execute
from wmdsl_kernels.attention.refusals import RULES, verdicts
from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.schedule import Schedule, ScheduleBuffers

LIBRARIES = {"sdpa": dense, "flex": flex, "xformers": xformers_attention}
"""Back ends that bring their own gradient: modules with `missing()` and `attend(...)`."""

AUTOCAST_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


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
    query, key, value = _autocast(query, key, value)
    if schedule is None and backend is None and not return_lse:
        check_layouts(query, key, value)
        return dense.attend_all(query, key, value, scale)
    request = describe(query, key, value, schedule, return_lse)
    name = _chosen(request) if backend is None else _accepted(request, backend)
    scale = request.head_dim**-0.5 if scale is None else scale
    output, lse = _run(name, query, key, value, request, scale)
    return (output, lse) if return_lse else output


def explain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Schedule | None,
    return_lse: bool,
) -> list[tuple[str, bool, str]]:
    """`wmdsl_kernels.explain_dispatch`."""
    query, key, value = _autocast(query, key, value)
    return verdicts(describe(query, key, value, schedule, return_lse), _missing)


def _run(name, query, key, value, request: Request, scale: float):
    if name in LIBRARIES:
        return LIBRARIES[name].attend(query, key, value, request, scale)
    if name == "naive":
        output, lse = naive.naive_attention(query, key, value, request.schedule, scale)
        return output.to(query.dtype), lse
    return execute(query, key, value, _buffers(request, query.device, name), scale, name)


def _autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The tensors in autocast's dtype where it is on; it leaves float64 alone."""
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t.to(dtype) if t.dtype in AUTOCAST_DTYPES else t for t in tensors)


def _chosen(request: Request) -> str:
    refusals = []
    for name in RULES:
        reason = _refusal(name, request)
        if reason is None:
            return name
        refusals.append((name, reason))
    raise errors.no_backend(refusals)


def _accepted(request: Request, name: str) -> str:
    known = (*RULES, "naive")
    if name not in known:
        raise errors.unknown_backend(name, known)
    reason = None if name == "naive" else _refusal(name, request)
    if reason is not None:
        raise errors.backend_refuses(name, reason)
    return name


def _refusal(name: str, request: Request) -> str | None:
    return RULES[name](request) or _missing(name)


def _missing(name: str) -> str | None:
    module = LIBRARIES[name] if name in LIBRARIES else EXECUTORS[name]
    return module.missing()


def _buffers(request: Request, device: torch.device, executor: str) -> ScheduleBuffers:
    schedule = request.schedule or Schedule.dense(request.query_length, request.key_length)
    return schedule.buffers(device, *EXECUTORS[executor].tiles(request))
