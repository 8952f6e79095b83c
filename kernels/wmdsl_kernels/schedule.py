"""The mask of an attention call as a static table of ranges.

A `Schedule` says which key ranges each block of queries sees. It replaces the dense boolean mask:
all executors (Triton, C++, torch) walk the same table, and what it leaves out is never computed.
Torch is loaded only where tensors are made, so that a compiler's front end can use schedules.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from wmdsl_kernels import errors

if TYPE_CHECKING:
    import torch

Range = tuple[int, int]
"""A half-open interval of token indices, `start < stop`."""

UNTILED = 1 << 30
"""A tile size that no block reaches: one tile per block."""


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
        spans = pairwise(sorted(edges))
        return RangeTable.of((span, self._blocks_meeting(span)) for span in spans)

    def tiles(self, size: int) -> Iterator[tuple[int, int, int]]:
        """(start, stop, block) of tiles of at most `size` tokens that never straddle a block."""
        for index, (start, stop) in enumerate(self.blocks):
            for low in range(start, stop, size):
                yield low, min(low + size, stop), index

    def buffers(self, tile: int, device: torch.device) -> TableBuffers:
        """The table as int32 tensors, cut into tiles of at most `tile` tokens."""
        import torch

        flat = [span for seen in self.ranges for span in seen]
        pointers = [0]
        for seen in self.ranges:
            pointers.append(pointers[-1] + len(seen))
        return TableBuffers(
            tile,
            torch.tensor(list(self.tiles(tile)), dtype=torch.int32, device=device),
            torch.tensor(pointers, dtype=torch.int32, device=device),
            torch.tensor(flat, dtype=torch.int32, device=device).reshape(-1, 2),
        )

    def _blocks_meeting(self, span: Range) -> list[Range]:
        return [
            block
            for block, seen in zip(self.blocks, self.ranges, strict=True)
            if any(low <= span[0] and span[1] <= high for low, high in seen)
        ]


class ScheduleBuffers(NamedTuple):
    """What the executors read: the table by queries and its transposed twin by keys."""

    rows: TableBuffers
    columns: TableBuffers


@dataclass(frozen=True)
class Schedule:
    """Which keys each query sees; static, hashable, independent of batch, heads and dtype."""

    query_length: int
    key_length: int
    rows: RangeTable

    @classmethod
    def from_ranges(
        cls,
        query_length: int,
        key_length: int,
        ranges: Sequence[tuple[int, int, int, int]],
    ) -> Schedule:
        """The schedule of rows (query_start, query_stop, key_start, key_stop).

        Rows may repeat a query block for several key ranges; blocks are disjoint or identical.
        Queries that no row names see no key: their output is 0 and their LSE is -inf.
        Raises ScheduleError for empty axes, ranges out of bounds and overlapping blocks.
        """
        _check_axis("query", query_length)
        _check_axis("key", key_length)
        seen: dict[Range, list[Range]] = {}
        for query_start, query_stop, key_start, key_stop in ranges:
            block = _checked("query", (query_start, query_stop), query_length)
            keys = _checked("key", (key_start, key_stop), key_length)
            seen.setdefault(block, []).append(keys)
        return cls(query_length, key_length, RangeTable.of(_covering(seen, query_length)))

    @classmethod
    def dense(cls, query_length: int, key_length: int) -> Schedule:
        """The schedule in which every query sees every key."""
        return cls.from_ranges(query_length, key_length, [(0, query_length, 0, key_length)])

    @classmethod
    def from_groups(cls, lengths: Sequence[int], visible: Callable[[int, int], bool]) -> Schedule:
        """Self-attention over groups laid end to end: group i sees group j if `visible(i, j)`."""
        edges = [0, *accumulate(lengths)]
        groups = list(pairwise(edges))
        rows = [
            (*block, *span)
            for i, block in enumerate(groups)
            for j, span in enumerate(groups)
            if visible(i, j)
        ]
        return cls.from_ranges(edges[-1], edges[-1], rows)

    @cached_property
    def columns(self) -> RangeTable:
        """The transposed twin: for each block of keys, the query ranges that see it."""
        return self.rows.transposed(self.key_length)

    @cached_property
    def pairs(self) -> int:
        """How many query-key pairs are visible."""
        return sum(
            (stop - start) * sum(high - low for low, high in seen)
            for (start, stop), seen in zip(self.rows.blocks, self.rows.ranges, strict=True)
        )

    @property
    def density(self) -> float:
        """The visible share of all query-key pairs."""
        return self.pairs / (self.query_length * self.key_length)

    @property
    def is_dense(self) -> bool:
        """Whether every query sees every key."""
        return self.shared_range == (0, self.key_length)

    @property
    def shared_range(self) -> Range | None:
        """The one key range that all queries see, or None where there is no such range."""
        if len(self.rows.blocks) == 1 and len(self.rows.ranges[0]) == 1:
            return self.rows.ranges[0][0]
        return None

    @cached_property
    def has_empty_rows(self) -> bool:
        """Whether some query sees no key."""
        return not all(self.rows.ranges)

    @cached_property
    def digest(self) -> str:
        """A content hash: equal schedules have equal digests, in every process."""
        numbers = [self.query_length, self.key_length]
        for block, seen in zip(self.rows.blocks, self.rows.ranges, strict=True):
            numbers += [*block, len(seen), *(edge for span in seen for edge in span)]
        return hashlib.sha256(struct.pack(f"<{len(numbers)}q", *numbers)).hexdigest()[:16]

    def to_ranges(self) -> list[tuple[int, int, int, int]]:
        """The rows that `from_ranges` takes, in canonical order."""
        return [
            (*block, *span)
            for block, seen in zip(self.rows.blocks, self.rows.ranges, strict=True)
            for span in seen
        ]

    def to_dense_mask(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """The mask as bool [query_length, key_length], true where the query sees the key."""
        import torch

        mask = torch.zeros(self.query_length, self.key_length, dtype=torch.bool, device=device)
        for query_start, query_stop, key_start, key_stop in self.to_ranges():
            mask[query_start:query_stop, key_start:key_stop] = True
        return mask

    def buffers(
        self, device: torch.device, query_tile: int = UNTILED, key_tile: int = UNTILED
    ) -> ScheduleBuffers:
        """The tensors that executors read on `device`; built once per device and tile sizes."""
        import torch

        place = (device, query_tile, key_tile)
        found = self._buffers.get(place)
        if found is None:
            found = ScheduleBuffers(
                self.rows.buffers(query_tile, device), self.columns.buffers(key_tile, device)
            )
            # What a tracer builds are stand-ins without data: they must not outlive the trace.
            if not torch.compiler.is_compiling():
                self._buffers[place] = found
        return found

    @cached_property
    def _buffers(self) -> dict[tuple[torch.device, int, int], ScheduleBuffers]:
        return {}


def merge_ranges(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The union of the ranges: ascending, no two touching."""
    merged: list[Range] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return tuple(merged)


def _covering(seen: dict[Range, list[Range]], length: int) -> Iterator[tuple[Range, list[Range]]]:
    """The blocks in order, with empty blocks where no row names a query."""
    blocks = sorted(seen)
    for left, right in pairwise(blocks):
        if right[0] < left[1]:
            raise errors.overlapping_blocks(left, right)
    position = 0
    for block in blocks:
        if position < block[0]:
            yield (position, block[0]), []
        yield block, seen[block]
        position = block[1]
    if position < length:
        yield (position, length), []


def _check_axis(axis: str, length: int) -> None:
    if length < 1:
        raise errors.empty_axis(axis, length)


def _checked(axis: str, bounds: Range, length: int) -> Range:
    if not 0 <= bounds[0] < bounds[1] <= length:
        raise errors.range_out_of_bounds(axis, bounds, length)
    return bounds
