"""Tables of ranges: which ranges of one axis each block of the other axis meets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

Range = tuple[int, int]
"""A half-open interval of token indices, `start < stop`."""

UNTILED = 1 << 30
"""A size of tiles, or of shares of keys, that no block reaches: it stays whole."""


class TableBuffers(NamedTuple):
    """A `RangeTable` as int32 tensors on one device.

    `tiles` [n, 3]: start, stop and block of each tile of at most `tile` tokens; `pointers`
    [blocks + 1] and `ranges` [r, 2]: the ranges of block b are rows `pointers[b]` to
    `pointers[b + 1]`.
    """

    tile: int
    tiles: torch.Tensor
    pointers: torch.Tensor
    ranges: torch.Tensor


@dataclass(frozen=True)
class RangeTable:
    """Ascending blocks that cover one axis, and the ascending ranges of the other axis they meet.

    Canonical: ranges of one block neither touch nor overlap, adjacent blocks have unequal ranges.
    """

    blocks: tuple[Range, ...]
    ranges: tuple[tuple[Range, ...], ...]

    @classmethod
    def of(cls, entries: Iterable[tuple[Range, Iterable[Range]]]) -> RangeTable:
        """The canonical table of adjacent blocks and their (unordered, overlapping) ranges."""
        blocks: list[Range] = []
        ranges: list[tuple[Range, ...]] = []
        for (start, stop), seen in entries:
            merged = merge_ranges(seen)
            if ranges and ranges[-1] == merged:
                blocks[-1] = (blocks[-1][0], stop)
                continue
            blocks.append((start, stop))
            ranges.append(merged)
        return cls(tuple(blocks), tuple(ranges))

    def transposed(self, length: int) -> RangeTable:
        """The same pairs seen from the other axis, which is `length` long."""
        edges = {0, length, *(edge for seen in self.ranges for span in seen for edge in span)}
        edges = sorted(edges)
        place = {edge: number for number, edge in enumerate(edges)}
        meeting: list[list[Range]] = [[] for _ in edges[1:]]
        for block, seen in zip(self.blocks, self.ranges, strict=True):
            for low, high in seen:
                for blocks in meeting[place[low] : place[high]]:
                    if blocks and blocks[-1][1] == block[0]:
                        blocks[-1] = (blocks[-1][0], block[1])  # a run of blocks is one range
                    else:
                        blocks.append(block)
        return RangeTable.of(zip(pairwise(edges), meeting, strict=True))

    def tiles(self, size: int) -> Iterator[tuple[int, int, int]]:
        """(start, stop, block) of tiles of at most `size` tokens that never straddle a block."""
        for index, (start, stop) in enumerate(self.blocks):
            for low in range(start, stop, size):
                yield low, min(low + size, stop), index

    def buffers(self, tile: int, device: torch.device) -> TableBuffers:
        """The table as int32 tensors, cut into tiles of at most `tile` tokens."""
        import torch

        flat = [span for seen in self.ranges for span in seen]
        return TableBuffers(
            tile,
            torch.tensor(list(self.tiles(tile)), dtype=torch.int32, device=device),
            torch.tensor(pointers_of(self.ranges), dtype=torch.int32, device=device),
            torch.tensor(flat, dtype=torch.int32, device=device).reshape(-1, 2),
        )


def pointers_of(groups: Iterable[Sequence[object]]) -> list[int]:
    """Where the members of each group begin in a list of all, and where that list ends."""
    return [0, *accumulate(map(len, groups))]


def merge_ranges(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The union of the ranges: ascending, no two touching."""
    merged: list[Range] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return tuple(merged)
