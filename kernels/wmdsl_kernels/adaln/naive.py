"""Modulated norm and gated residual in float64 from the definition.

B batch, T tokens, W width, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def naive_modulated_norm(
    x: torch.Tensor,  # [B, T, W]
    shift: torch.Tensor,  # [B, R, W]
    scale: torch.Tensor,  # [B, R, W]
    lengths: Sequence[int],
    kind: str = "layer",
    epsilon: float = 1e-5,
) -> torch.Tensor:
    """norm(x) (1 + scale) + shift [B, T, W]; row r belongs to the next `lengths[r]` tokens."""
    wide = x.double()
    if kind == "layer":
        wide = wide - wide.mean(dim=-1, keepdim=True)
    normed = wide / (wide.square().mean(dim=-1, keepdim=True) + epsilon).sqrt()
    return normed * (1 + spread(scale, lengths)) + spread(shift, lengths)


def naive_gated_residual(
    x: torch.Tensor,  # [B, T, W]
    change: torch.Tensor,  # [B, T, W]
    gate: torch.Tensor,  # [B, R, W]
    lengths: Sequence[int],
) -> torch.Tensor:
    """x + gate * change [B, T, W]."""
    return x.double() + spread(gate, lengths) * change.double()


def spread(rows: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Rows [B, R, W] repeated for their tokens: float64 [B, T, W]."""
    counts = torch.tensor(lengths, device=rows.device)
    return rows.double().repeat_interleave(counts, dim=1)
