"""The mask of an attention call as a static table of ranges.

A `Schedule` says which key ranges each block of queries sees. It replaces the dense boolean mask:
all executors (Triton, C++, torch) walk the same table, and what it leaves out is never computed
(but for steps that are joined to a tile, `stairs.py`).
Torch is loaded only where tensors are made, so that a compiler's front end can use schedules.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from wmdsl_kernels import errors, stairs
from wmdsl_kernels.ranges import UNTILED, Range, RangeTable, TableBuffers
from wmdsl_kernels.splits import ShareBuffers, SplitPlan
from wmdsl_kernels.tracing import readable

if TYPE_CHECKING:
    import torch


class ScheduleBuffers(NamedTuple):
    """What the executors read: the table by queries and its transposed twin by keys.

    Where steps were joined (`stairs.py`), `limits` [T] hides from each query the keys at its limit
    and beyond; else it is empty, and ranges say all. `shares` is the split-K plan of the table by
    queries (`splits.py`).
    """

    rows: TableBuffers
    columns: TableBuffers
    limits: torch.Tensor
    shares: ShareBuffers

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tensors, in the order in which `of` takes them."""
        return [self.limits, *self.rows[1:], *self.columns[1:], *self.shares[1:]]

    @property
    def sizes(self) -> list[int]:
        """All numbers, in the order in which `of` takes them."""
        return [self.rows.tile, self.columns.tile, self.shares.most]

    @classmethod
    def of(cls, tensors: Sequence[torch.Tensor], sizes: Sequence[int]) -> ScheduleBuffers:
        """The buffers that these tensors and numbers came from."""
        limits, *tables = tensors
        query_tile, key_tile, most = sizes
        rows, columns = TableBuffers(query_tile, *tables[:3]), TableBuffers(key_tile, *tables[3:6])
        return cls(rows, columns, limits, ShareBuffers(most, *tables[6:]))


class Tiling(NamedTuple):
    """How an executor wants a schedule cut: tiles of so many tokens at most, and steps joined to
    blocks of so many at most (0: none); `twin` if it reads the table by keys, which is else empty;
    the keys of a query tile in shares of `share` at most.
    """

    query_tile: int = UNTILED
    key_tile: int = UNTILED
    joined_queries: int = 0
    joined_keys: int = 0
    twin: bool = False
    share: int = UNTILED


WHOLE_BLOCKS = Tiling()


@dataclass(frozen=True)
class Schedule:
    """Which keys each query sees; static, hashable, independent of batch, heads and dtype."""

    query_length: int
    key_length: int
    rows: RangeTable
    # What is built on first use: fields, for a tracer cannot enter the lock of a cached property.
    _buffers: dict[tuple[torch.device, Tiling], ScheduleBuffers] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _joined: dict[int, RangeTable] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.query_length, self.key_length, self.rows))

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
            block, keys = (query_start, query_stop), (key_start, key_stop)
            if not 0 <= query_start < query_stop <= query_length:
                raise errors.range_out_of_bounds("query", block, query_length)
            if not 0 <= key_start < key_stop <= key_length:
                raise errors.range_out_of_bounds("key", keys, key_length)
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
        rows = []
        for i, block in enumerate(pairwise(edges)):
            seen = [False, *(bool(visible(i, j)) for j in range(len(lengths))), False]
            turns = [edges[j] for j, (left, right) in enumerate(pairwise(seen)) if left != right]
            rows += [(*block, *span) for span in zip(turns[::2], turns[1::2], strict=True)]
        return cls.from_ranges(edges[-1], edges[-1], rows)

    @property
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

    @property
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

    @property
    def most_keys(self) -> int:
        """The most keys that a query sees."""
        return max(sum(high - low for low, high in seen) for seen in self.rows.ranges)

    def longest_block(self, joined: int) -> int:
        """The most queries of a block after steps were joined to at most `joined` queries."""
        return max(stop - start for start, stop in self._joined_rows(joined).blocks)

    def query_tiles(self, tiling: Tiling) -> int:
        """How many query tiles it is cut into."""
        rows = self._joined_rows(tiling.joined_queries)
        return sum(-(-(stop - start) // tiling.query_tile) for start, stop in rows.blocks)

    def _joined_rows(self, joined: int) -> RangeTable:
        found = self._joined.get(joined)
        if found is None:
            found = self._joined[joined] = stairs.joined_rows(self.rows, joined)
        return found

    def buffers(self, device: torch.device, tiling: Tiling = WHOLE_BLOCKS) -> ScheduleBuffers:
        """The tensors that executors read on `device`; built once per device and tiling."""
        import torch

        place = (device, tiling)
        found = self._buffers.get(place)
        # What a tracer builds are stand-ins without data: they must not outlive the trace.
        tracing = torch.compiler.is_compiling()
        if found is None or not (tracing or readable(found.limits)):
            with torch.inference_mode(False):  # training may read them next
                found = self._built(device, tiling)
            if not tracing:
                self._buffers[place] = found
        return found

    def _built(self, device: torch.device, tiling: Tiling) -> ScheduleBuffers:
        import torch

        limits = stairs.limits_of(self.rows)
        rows = self._joined_rows(tiling.joined_queries)
        plain, columns = rows == self.rows, RangeTable((), ())
        if tiling.twin:
            columns = stairs.joined_columns(self.columns, limits, tiling.joined_keys)
            plain = plain and columns == self.columns
        return ScheduleBuffers(
            rows.buffers(tiling.query_tile, device),
            columns.buffers(tiling.key_tile, device),
            torch.tensor([] if plain else limits, dtype=torch.int32, device=device),
            SplitPlan.of(rows, tiling.query_tile, tiling.share).buffers(device),
        )


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
