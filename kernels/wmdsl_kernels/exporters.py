"""A schedule in others' terms: an additive bias, FlexAttention's BlockMask, xformers' masks."""

from __future__ import annotations

import torch

from wmdsl_kernels.errors import ScheduleError
from wmdsl_kernels.schedule import Schedule


def to_block_mask(schedule: Schedule, device: torch.device | str, block_size: int = 128):
    """The schedule as a FlexAttention BlockMask for any batch and heads."""
    from torch.nn.attention.flex_attention import create_block_mask

    mask = schedule.to_dense_mask(device)
    return create_block_mask(
        lambda batch, head, query, key: mask[query, key],
        None,
        None,
        schedule.query_length,
        schedule.key_length,
        device=device,
        BLOCK_SIZE=block_size,
    )


def to_additive_bias(
    schedule: Schedule, dtype: torch.dtype, device: torch.device | str, multiple: int = 8
) -> torch.Tensor:
    """The schedule as a bias [query_length, key_length]: 0 where visible, -inf elsewhere.

    Its rows lie a multiple of `multiple` elements apart, as aligned kernels need.
    """
    padded = -(-schedule.key_length // multiple) * multiple
    bias = torch.full((schedule.query_length, padded), -torch.inf, dtype=dtype, device=device)
    bias[:, : schedule.key_length].masked_fill_(schedule.to_dense_mask(device), 0.0)
    return bias[:, : schedule.key_length]


def to_xformers(schedule: Schedule):
    """The schedule as xformers' BlockDiagonalGappyKeysMask, for sequences packed in one batch row.

    It holds one key run per query block: ScheduleError where a block sees several runs, or none.
    """
    from xformers.ops.fmha.attn_bias import BlockDiagonalGappyKeysMask

    for block, seen in zip(schedule.rows.blocks, schedule.rows.ranges, strict=True):
        if len(seen) != 1:
            raise ScheduleError(
                f"xformers' attn_bias holds one key run per query block; {block} has {len(seen)}"
            )
    runs = [seen[0] for seen in schedule.rows.ranges]
    return BlockDiagonalGappyKeysMask.from_seqlens(
        q_seqlen=[stop - start for start, stop in schedule.rows.blocks],
        kv_seqstarts=[*(start for start, _ in runs), schedule.key_length],
        kv_seqlen=[stop - start for start, stop in runs],
    )
