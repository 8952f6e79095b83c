"""Back end `sdpa`: torch's own attention, where the mask has vanished."""

from __future__ import annotations

import torch
from torch.nn import functional

from wmdsl_kernels.attention.request import Request


def missing() -> None:
    """It is never missing."""


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    request: Request,
    scale: float,
) -> tuple[torch.Tensor, None]:
    """Output [B, T, H, K]: every query over the one visible key range."""
    visible = slice(*request.shared_range)
    keys, values = (tensor[:, visible].transpose(1, 2) for tensor in (key, value))
    grouped = query.shape[2] != key.shape[2]
    output = functional.scaled_dot_product_attention(
        query.transpose(1, 2), keys, values, scale=scale, enable_gqa=grouped
    )
    return output.transpose(1, 2), None
