"""The kernels for files that need torch alone: a schedule becomes a boolean mask.

B batch, T (query) tokens, S key tokens, H heads, G key heads, K head dim, W width, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


class Schedule:
    """Which keys each query sees."""

    def __init__(self, mask_TS: Tensor):
        self.mask_TS = mask_TS
        self.placed: dict[torch.device, Tensor] = {}

    @classmethod
    def from_ranges(
        cls, query_length: int, key_length: int, ranges: Sequence[tuple[int, int, int, int]]
    ) -> Schedule:
        """The schedule of rows (query_start, query_stop, key_start, key_stop)."""
        mask = torch.zeros(query_length, key_length, dtype=torch.bool)
        for query_start, query_stop, key_start, key_stop in ranges:
            mask[query_start:query_stop, key_start:key_stop] = True
        return cls(mask)

    def mask_beside(self, x: Tensor) -> Tensor:
        """The mask [T, S] where x is; copied once, since no CUDA graph copies from the host."""
        found = self.placed.get(x.device)
        if type(found) is not type(x):  # none yet, or the stand-in of another trace
            with torch.inference_mode(False):  # training may read it next
                found = self.mask_TS.to(x.device)
            if not torch.compiler.is_compiling():
                self.placed[x.device] = found
        return found


def attention(
    query_BTHK: Tensor, key_BSGK: Tensor, value_BSGK: Tensor, schedule: Schedule | None = None
) -> Tensor:
    """softmax(query key^T / sqrt(K)) value over the keys that each query sees [B, T, H, K]."""
    heads = [x.transpose(1, 2) for x in (query_BTHK, key_BSGK, value_BSGK)]
    mask = None if schedule is None else schedule.mask_beside(query_BTHK)
    grouped = query_BTHK.shape[2] != key_BSGK.shape[2]
    mixed = functional.scaled_dot_product_attention(*heads, attn_mask=mask, enable_gqa=grouped)
    return mixed.transpose(1, 2)


def modulated_norm(
    x_BTW: Tensor, shift_BRW: Tensor, scale_BRW: Tensor, lengths: Sequence[int]
) -> Tensor:
    """LayerNorm(x) (1 + scale) + shift; row r belongs to the next `lengths[r]` tokens."""
    parts = functional.layer_norm(x_BTW, x_BTW.shape[-1:]).split(lengths, dim=1)
    rows = zip(parts, shift_BRW.split(1, dim=1), scale_BRW.split(1, dim=1), strict=True)
    return torch.cat([torch.addcmul(low, part, 1 + high) for part, low, high in rows], dim=1)


def gated_residual(
    x_BTW: Tensor, change_BTW: Tensor, gate_BRW: Tensor, lengths: Sequence[int]
) -> Tensor:
    """x + gate * change; row r of the gate belongs to the next `lengths[r]` tokens."""
    parts = x_BTW.split(lengths, dim=1), change_BTW.split(lengths, dim=1)
    rows = zip(*parts, gate_BRW.split(1, dim=1), strict=True)
    return torch.cat([torch.addcmul(part, row, other) for part, other, row in rows], dim=1)


def rotated_heads(x_BTHK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """The pairs (k, k + K / 2) of each head, turned by the angle of the token."""
    left, right = x_BTHK.chunk(2, dim=-1)
    cos, sin = cos_TK[:, None], sin_TK[:, None]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
