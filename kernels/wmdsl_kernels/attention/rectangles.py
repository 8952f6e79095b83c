"""Executor `rectangles`: torch's CPU flash attention on each dense rectangle of the schedule.

The path for machines without a C++ compiler. Key ranges of one query block are gathered, so the
rectangle needs no mask; gradients of keys are added in the order of the blocks (deterministic).
B batch, T query tokens, S key tokens, H query heads, G key heads, K head dim.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.ranges import Range, TableBuffers
from wmdsl_kernels.schedule import WHOLE_BLOCKS, ScheduleBuffers, Tiling


def missing() -> None:
    """It is never missing."""


def tiling(request: Request) -> Tiling:
    """Whole blocks: each is one dense rectangle."""
    return WHOLE_BLOCKS


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: ScheduleBuffers,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, H, K] and LSE [B, H, T] (float32 or wider)."""
    batch, length, heads, _ = query.shape
    output = torch.zeros_like(query, memory_format=torch.contiguous_format)
    lse = query.new_full(
        (batch, heads, length), -torch.inf, dtype=torch.promote_types(query.dtype, torch.float32)
    )
    for (start, stop), spans in _rectangles(schedule.rows):
        block, block_lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[:, start:stop].transpose(1, 2),
            _gathered(key, spans, heads),
            _gathered(value, spans, heads),
            scale=scale,
        )
        output[:, start:stop] = block.transpose(1, 2)
        lse[:, :, start:stop] = block_lse
    return output, lse


def backward(
    grad_output: torch.Tensor,
    grad_lse: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    schedule: ScheduleBuffers,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value; `grad_lse` is ignored because `refusal` excludes it."""
    heads, dtype = query.shape[2], query.dtype
    wide = torch.promote_types(dtype, torch.float32)
    if dtype == torch.float16:
        # A key's gradient is a sum over rectangles: rounding each part costs twice torch's error.
        operands = (grad_output, query, key, value, output)
        grad_output, query, key, value, output = (tensor.to(wide) for tensor in operands)
    grad_query = torch.zeros_like(query, memory_format=torch.contiguous_format)
    grad_key = torch.zeros(key.shape, dtype=wide)
    grad_value = torch.zeros(key.shape, dtype=wide)
    grad_output = grad_output.contiguous()
    for (start, stop), spans in _rectangles(schedule.rows):
        part = slice(start, stop)
        gradients = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad_output[:, part].transpose(1, 2),
            query[:, part].transpose(1, 2),
            _gathered(key, spans, heads),
            _gathered(value, spans, heads),
            output[:, part].transpose(1, 2),
            lse[:, :, part],
            0.0,
            False,
            scale=scale,
        )
        grad_query[:, part] = gradients[0].transpose(1, 2)
        _scatter(grad_key, gradients[1], spans)
        _scatter(grad_value, gradients[2], spans)
    return grad_query.to(dtype), grad_key.to(dtype), grad_value.to(dtype)


def _rectangles(rows: TableBuffers) -> Iterator[tuple[Range, list[Range]]]:
    pointers, ranges = rows.pointers.tolist(), rows.ranges.tolist()
    for start, stop, block in rows.tiles.tolist():
        spans = [tuple(span) for span in ranges[pointers[block] : pointers[block + 1]]]
        if spans:
            yield (start, stop), spans


def _gathered(tensor: torch.Tensor, spans: list[Range], heads: int) -> torch.Tensor:
    """The key or value rows in `spans` as [B, H, S', K], one copy per query head."""
    parts = [tensor[:, start:stop] for start, stop in spans]
    rows = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return rows.transpose(1, 2).repeat_interleave(heads // tensor.shape[2], dim=1)


def _scatter(target: torch.Tensor, gradient: torch.Tensor, spans: list[Range]) -> None:
    """Add a gradient [B, H, S', K] to the rows in `spans` of the target [B, S, G, K]."""
    batch, _, length, head_dim = gradient.shape
    grouped = gradient.reshape(batch, target.shape[2], -1, length, head_dim)
    grouped = grouped.sum(dim=2, dtype=target.dtype)
    position = 0
    for start, stop in spans:
        part = grouped[:, :, position : position + stop - start]
        target[:, start:stop] += part.transpose(1, 2)
        position += stop - start
