"""Back end `xformers`: its memory-efficient (CUTLASS) attention, with the schedule as a bias.

The bias is dense, so that nothing of the masked work is saved: a rival and a second opinion.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch

from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.exporters import to_additive_bias
from wmdsl_kernels.schedule import Schedule


@cache
def missing() -> str | None:
    """Why xformers cannot be used here; None where it can."""
    if find_spec("xformers") is None:
        return "xformers is not installed"
    from xformers.ops.fmha import cutlass

    return None if cutlass.FwOp.is_available() else "xformers has no CUTLASS kernels for this torch"


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    request: Request,
    scale: float,
) -> tuple[torch.Tensor, None]:
    """Output [B, T, H, K]; key heads are repeated, because the bias is per query head."""
    from xformers.ops import memory_efficient_attention

    group = request.query_heads // request.key_heads
    key, value = (tensor.repeat_interleave(group, dim=2) for tensor in (key, value))
    bias = None
    if request.schedule is not None:
        bias = _bias(request.schedule, query.dtype, query.device)
        bias = bias.expand(request.batch, request.query_heads, -1, -1)
    return memory_efficient_attention(query, key, value, attn_bias=bias, scale=scale), None


@cache
def _bias(schedule: Schedule, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return to_additive_bias(schedule, dtype, device)
