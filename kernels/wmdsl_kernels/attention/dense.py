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
    return attend_all(query, key[:, visible], value[:, visible], scale), None


def attend_all(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """Output [B, T, H, K]: every query over all keys."""
    grouped = query.shape[2] != key.shape[2]
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    output = functional.scaled_dot_product_attention(
        query, key, value, scale=scale, enable_gqa=grouped
    )
    return output.transpose(1, 2)
