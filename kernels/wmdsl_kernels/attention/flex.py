"""Back end `flex`: torch's FlexAttention, with the schedule as its BlockMask.

It is compiled on first use, once per shape, which takes seconds.
"""

from __future__ import annotations

from functools import cache

import torch

from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.exporters import to_block_mask
from wmdsl_kernels.schedule import Schedule


def missing() -> None:
    """It comes with torch."""


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    request: Request,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, H, K] and natural-log LSE [B, H, T]."""
    from torch.nn.attention.flex_attention import AuxRequest

    output, aux = _compiled()(
        *(tensor.transpose(1, 2) for tensor in (query, key, value)),
        block_mask=_block_mask(request.schedule, query.device),
        scale=scale,
        enable_gqa=request.query_heads != request.key_heads,
        return_aux=AuxRequest(lse=True),
    )
    return output.transpose(1, 2), aux.lse


@cache
def _compiled():
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


@cache
def _block_mask(schedule: Schedule | None, device: torch.device):
    return None if schedule is None else to_block_mask(schedule, device)
