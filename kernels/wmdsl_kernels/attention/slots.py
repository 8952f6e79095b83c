"""The slots of split-K on a GPU: what each share of the keys found for each row, and their merging.

L lines (a key head of a sample), S slots per row, R rows (tokens times query heads of a key head),
K head dim.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from wmdsl_kernels.attention.configurations import head_width
from wmdsl_kernels.tensors import outer_strides


class Slots(NamedTuple):
    """Normalised outputs [L, S, R, K] and their LSE to the base 2 [L, S, R], in float32."""

    output: torch.Tensor
    lse: torch.Tensor


def empty_slots(lines: int, slots: int, rows: int, like: torch.Tensor) -> Slots:
    """Slots to be filled, with the head dim and the device of a query."""
    output = torch.empty(lines, slots, rows, like.shape[3], dtype=torch.float32, device=like.device)
    return Slots(output, output.new_empty(lines, slots, rows))


def merge(
    filled: Slots, output: torch.Tensor, lse: torch.Tensor, counts: torch.Tensor | None = None
) -> None:
    """Write the output [B, T, H, K] and its LSE [B, H, T]; `counts` [R] says how many slots of each
    row are filled, all by default.
    """
    from wmdsl_kernels.attention.merge_kernel import merge_kernel

    lines, slots, rows, head_dim = filled.output.shape
    batch, tokens, _, _ = output.shape
    merge_kernel[(rows, lines)](
        *filled,
        filled.lse if counts is None else counts,
        output,
        lse,
        rows,
        slots,
        tokens,
        *outer_strides(output),
        KEY_HEADS=lines // batch,
        GROUP=rows // tokens,
        HEAD_DIM=head_dim,
        WIDTH=head_width(head_dim),
        SPLITS=1 << (slots - 1).bit_length(),
        COUNTED=counts is not None,
        num_warps=4,
    )
