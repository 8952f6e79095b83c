"""`attention`: one call, and the choice of the back end that honours its schedule."""

from __future__ import annotations

import torch

from wmdsl_kernels import errors
from wmdsl_kernels.attention import dense, naive
from wmdsl_kernels.attention.executors import EXECUTORS
from wmdsl_kernels.attention.operators import execute
from wmdsl_kernels.attention.request import Request, describe
from wmdsl_kernels.schedule import Schedule, ScheduleBuffers

BACKENDS = ("sdpa", *EXECUTORS)
"""What a call without `backend` chooses from, in this order; `naive` runs only when named."""

AUTOCAST_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Schedule | None = None,
    *,
    scale: float | None = None,
    return_lse: bool = False,
    backend: str | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """softmax(query key^T * scale) value over the visible pairs, per head.

    query [B, T, H, K], key and value [B, S, G, K] with H a multiple of G -> [B, T, H, K], and with
    `return_lse` also the natural-log LSE [B, H, T]. `schedule` None lets every query see every key;
    `scale` None is K ** -0.5. A query that sees no key gets output 0 and LSE -inf.
    Under autocast the three tensors take its dtype, as in torch's own attention.
    Raises ArgumentError, ScheduleError, or DispatchError where no back end, or not the named one,
    takes the call.
    """
    query, key, value = _autocast(query, key, value)
    request = describe(query, key, value, schedule, return_lse)
    name = _chosen(request) if backend is None else _accepted(request, backend)
    scale = request.head_dim**-0.5 if scale is None else scale
    if name == "sdpa":
        return dense.attend(query, key, value, request.shared_range, scale)
    if name == "naive":
        output, lse = naive.naive_attention(query, key, value, schedule, scale)
        return (output.to(query.dtype), lse) if return_lse else output.to(query.dtype)
    output, lse = execute(query, key, value, _buffers(request, name), scale, name)
    return (output, lse) if return_lse else output


def explain_dispatch(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Schedule | None = None,
    *,
    return_lse: bool = False,
) -> list[tuple[str, bool, str]]:
    """(back end, whether it accepts, why not) in the order of preference; meta tensors will do."""
    query, key, value = _autocast(query, key, value)
    request = describe(query, key, value, schedule, return_lse)
    refusals = [(name, _refusal(name, request)) for name in BACKENDS]
    return [(name, reason is None, reason or "") for name, reason in refusals]


def _autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The tensors in autocast's dtype where it is on; it leaves float64 alone."""
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t.to(dtype) if t.dtype in AUTOCAST_DTYPES else t for t in tensors)


def _chosen(request: Request) -> str:
    refusals = []
    for name in BACKENDS:
        reason = _refusal(name, request)
        if reason is None:
            return name
        refusals.append((name, reason))
    raise errors.no_backend(refusals)


def _accepted(request: Request, name: str) -> str:
    known = (*BACKENDS, "naive")
    if name not in known:
        raise errors.unknown_backend(name, known)
    reason = None if name == "naive" else _refusal(name, request)
    if reason is not None:
        raise errors.backend_refuses(name, reason)
    return name


def _refusal(name: str, request: Request) -> str | None:
    module = dense if name == "sdpa" else EXECUTORS[name]
    return module.refusal(request)


def _buffers(request: Request, executor: str) -> ScheduleBuffers:
    schedule = request.schedule or Schedule.dense(request.query_length, request.key_length)
    return schedule.buffers(request.device, *EXECUTORS[executor].tiles(request))
