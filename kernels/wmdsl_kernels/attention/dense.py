"""Back end `sdpa`: torch's own attention, where the mask has vanished."""

from __future__ import annotations

import torch
from torch.nn import functional

from wmdsl_kernels.attention.request import Request


def refusal(request: Request) -> str | None:
    """Why torch's attention cannot take the call; None where it can."""
    if request.shared_range is None:
        return "the schedule is not one dense rectangle"
    if request.wants_lse:
        return "scaled_dot_product_attention does not return the LSE"
    return None


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    visible: tuple[int, int],
    scale: float,
) -> torch.Tensor:
    """Every query over the one visible key range; layouts as in `attention`."""
    keys, values = (tensor[:, slice(*visible)].transpose(1, 2) for tensor in (key, value))
    grouped = query.shape[2] != key.shape[2]
    output = functional.scaled_dot_product_attention(
        query.transpose(1, 2), keys, values, scale=scale, enable_gqa=grouped
    )
    return output.transpose(1, 2)
