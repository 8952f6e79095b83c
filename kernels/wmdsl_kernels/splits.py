"""Split-K: the keys of a query tile cut into shares, so that few tiles fill a GPU.

Every share of a tile is a unit of work of its own. What it finds for a query, a normalised output
and its LSE, goes into a slot; a second kernel weighs the slots of a query by their LSE. Slots are
numbered `share * query_length + query`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from wmdsl_kernels.ranges import UNTILED, Range, RangeTable, pointers_of

if TYPE_CHECKING:
    import torch

PROGRAMS_PER_PROCESSOR = 2
LEAST_KEYS = 128
"""A share of fewer keys would write about as much into its slots as it reads."""


class ShareBuffers(NamedTuple):
    """A `SplitPlan` as int32 tensors on one device; without a plan `most` is 1 and they are empty.

    `tiles` [n, 4]: start, stop, share and first slot of each unit; `pointers` [shares + 1] and
    `ranges` [r, 2]: the key ranges of share s are rows `pointers[s]` to `pointers[s + 1]`; `counts`
    [T]: how many slots each query has, `most` at most.
    """

    most: int
    tiles: torch.Tensor
    pointers: torch.Tensor
    ranges: torch.Tensor
    counts: torch.Tensor


@dataclass(frozen=True)
class SplitPlan:
    """The units (start, stop, share, first slot), the ranges of each share, shares per query."""

    tiles: tuple[tuple[int, int, int, int], ...] = ()
    ranges: tuple[tuple[Range, ...], ...] = ()
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, rows: RangeTable, tile: int, keys: int) -> SplitPlan:
        """Tiles of at most `tile` queries in shares of at most `keys` keys; the empty plan where
        that cuts none.
        """
        length = rows.blocks[-1][1]
        shares = [list(_cut(seen, keys)) for seen in rows.ranges]
        if max(map(len, shares)) == 1:
            return cls()
        first = pointers_of(shares)
        return cls(
            tuple(
                (start, stop, first[block] + number, number * length + start)
                for start, stop, block in rows.tiles(tile)
                for number in range(len(shares[block]))
            ),
            tuple(part for parts in shares for part in parts),
            tuple(
                len(parts)
                for (start, stop), parts in zip(rows.blocks, shares, strict=True)
                for _ in range(start, stop)
            ),
        )

    def buffers(self, device: torch.device) -> ShareBuffers:
        """The plan as int32 tensors."""
        import torch

        def table(numbers: Iterable, width: int) -> torch.Tensor:
            return torch.tensor([*numbers], dtype=torch.int32, device=device).reshape(-1, width)

        return ShareBuffers(
            max(self.counts, default=1),
            table(self.tiles, 4),
            torch.tensor(pointers_of(self.ranges), dtype=torch.int32, device=device),
            table((span for seen in self.ranges for span in seen), 2),
            torch.tensor(self.counts, dtype=torch.int32, device=device),
        )


def share_of(keys: int, programs: int, processors: int, step: int) -> int:
    """The keys of a share, in whole steps, with which `programs` that meet `keys` keys each fill
    the GPU; `UNTILED` where they fill it uncut, or there are none.
    """
    if programs == 0:
        return UNTILED
    wanted = min(PROGRAMS_PER_PROCESSOR * processors // programs, keys // LEAST_KEYS)
    return UNTILED if wanted < 2 else -(-keys // (wanted * step)) * step


def _cut(ranges: Iterable[Range], most: int) -> Iterator[tuple[Range, ...]]:
    """The ranges in shares of `most` keys and one of what is left; one empty share of nothing."""
    share: list[Range] = []
    room = most
    for low, high in ranges:
        while low < high:
            if room == 0:
                yield tuple(share)
                share, room = [], most
            stop = min(high, low + room)
            share.append((low, stop))
            room -= stop - low
            low = stop
    yield tuple(share)
