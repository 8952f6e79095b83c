"""Back end `torch`: the same functions of torch's operations, on any device and for any dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

WIDE = (torch.float32, torch.float64)


def modulated_norm(
    x: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor,
    lengths: Sequence[int],
    kind: str,
    epsilon: float,
) -> torch.Tensor:
    """norm(x) (1 + scale) + shift, run by run; half precision is rounded once, at the end."""
    wide, low, high = (_widened(tensor) for tensor in (x, shift, scale))
    norm = functional.layer_norm if kind == "layer" else functional.rms_norm
    normed = norm(wide, wide.shape[-1:], eps=epsilon)
    if len(lengths) == 1:
        return torch.addcmul(low, normed, 1 + high).to(x.dtype)
    rows = zip(low.split(1, dim=1), (1 + high).split(1, dim=1), strict=True)
    pairs = zip(normed.split(lengths, dim=1), rows, strict=True)
    moved = [torch.addcmul(row, part, factor) for part, (row, factor) in pairs]
    return torch.cat(moved, dim=1).to(x.dtype)


def gated_residual(
    x: torch.Tensor, change: torch.Tensor, gate: torch.Tensor, lengths: Sequence[int]
) -> torch.Tensor:
    """x + gate * change, run by run; half precision is rounded once, at the end."""
    if len(lengths) == 1:
        return torch.addcmul(*map(_widened, (x, change, gate))).to(x.dtype)
    tokens = zip(_widened(x).split(lengths, 1), _widened(change).split(lengths, 1), strict=True)
    pairs = zip(tokens, _widened(gate).split(1, dim=1), strict=True)
    moved = [torch.addcmul(part, row, other) for (part, other), row in pairs]
    return torch.cat(moved, dim=1).to(x.dtype)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype in WIDE else tensor.float()
