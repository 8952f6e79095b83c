"""What a layout draws anew at every training step. B batch, T tokens."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from wmdsl_kernels import Schedule


def whole_number(low: int, high: int, like: Tensor, generator: Generator | None) -> int:
    """A number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator, device=like.device))


def sometimes(
    shape: tuple[int, ...], chance: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """1 with that chance, else 0."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return (draw < chance).to(like.dtype)


def schedule_of(seen_TT: Tensor) -> Schedule:
    """The ranges of keys that each query sees of a mask bool [T, T]."""
    length = len(seen_TT)
    edges = torch.nn.functional.pad(seen_TT.int(), (1, 1)).diff()
    starts, ends = (edges == 1).nonzero().tolist(), (edges == -1).nonzero().tolist()
    rows = [
        (query, query + 1, start, end)
        for (query, start), (_, end) in zip(starts, ends, strict=True)
    ]
    return Schedule.from_ranges(length, length, rows)
