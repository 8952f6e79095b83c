"""What a layout draws anew at every training step. B batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

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


def schedule_of(seen: Tensor, lengths: Sequence[tuple[int, int]]) -> Schedule:
    """The schedule of a mask bool [runs, runs] over runs of tokens.

    `lengths` says the tokens of the runs in order: so many runs of so many tokens each.
    """
    changes = (seen[1:] ^ seen[:-1]).view(torch.uint8).amax(dim=1)  # any() is far slower
    edges = torch.nn.functional.pad(changes, (1, 1), value=1).nonzero()[:, 0]
    turns = torch.nn.functional.pad(seen[edges[:-1]].int(), (1, 1)).diff().nonzero()
    (block, start), stop = turns[::2].T, turns[1::2, 1]
    rows = torch.stack([edges[block], edges[block + 1], start, stop], dim=1)
    tokens = [length for count, length in lengths for _ in range(count)]
    place = [0, *accumulate(tokens)]
    ranges = [(place[a], place[b], place[c], place[d]) for a, b, c, d in rows.tolist()]
    return Schedule.from_ranges(place[-1], place[-1], ranges)
