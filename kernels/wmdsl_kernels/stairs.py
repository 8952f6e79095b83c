"""Stairs: adjacent blocks of queries, each of which sees what the last one sees and more behind it.

A token-causal mask consists of nothing else, one query a step. Executors whose tiles are taller
than a step join steps: the joined block takes the ranges of its last step, and `limits` hide from
each query the keys that lie beyond its own. A query sees the keys of its block's ranges below its
limit; that holds for every block, joined or not. What a limit hides is computed and given weight
0: a key or value that is not finite spoils the queries of its block that do not see it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wmdsl_kernels.ranges import Range, RangeTable


def limits_of(rows: RangeTable) -> list[int]:
    """Per query the end of the last key range that it sees, 0 where it sees none."""
    return [
        seen[-1][1] if seen else 0
        for (start, stop), seen in zip(rows.blocks, rows.ranges, strict=True)
        for _ in range(start, stop)
    ]


def joined_rows(rows: RangeTable, most: int) -> RangeTable:
    """The table by queries with steps joined to blocks of at most `most` queries.

    The first and the last step of a block differ by at most `most` keys too, so that a block never
    computes much more than its steps would.
    """
    blocks: list[Range] = []
    ranges: list[tuple[Range, ...]] = []
    fewest = 0
    for (start, stop), seen in zip(rows.blocks, rows.ranges, strict=True):
        keys = _length(seen)
        small = blocks and stop - blocks[-1][0] <= most and keys - fewest <= most
        if small and _continues(ranges[-1], seen):
            blocks[-1], ranges[-1] = (blocks[-1][0], stop), seen
        else:
            blocks.append((start, stop))
            ranges.append(seen)
            fewest = keys
    return RangeTable(tuple(blocks), tuple(ranges))


def joined_columns(columns: RangeTable, limits: list[int], most: int) -> RangeTable:
    """The transposed twin with blocks of at most `most` keys, joined where limits tell them apart.

    A later block of keys joins those before it if it is seen by no other queries, and if the limits
    of those that do not see it lie at its start or before.
    """
    blocks: list[Range] = []
    ranges: list[tuple[Range, ...]] = []
    for (start, stop), seen in zip(columns.blocks, columns.ranges, strict=True):
        if blocks and stop - blocks[-1][0] <= most and seen:
            fewer = list(_less(ranges[-1], seen))
            inside = _length(ranges[-1]) - _length(fewer) == _length(seen)
            short = inside and _length(fewer) <= most
            if short and all(max(limits[low:high]) <= start for low, high in fewer):
                blocks[-1] = (blocks[-1][0], stop)
                continue
        blocks.append((start, stop))
        ranges.append(seen)
    return RangeTable(tuple(blocks), tuple(ranges))


def _continues(before: tuple[Range, ...], seen: tuple[Range, ...]) -> bool:
    """Whether `before` is what is left of `seen` below the end of `before`."""
    if not before or not seen:
        return False
    limit = before[-1][1]
    left = tuple((low, min(high, limit)) for low, high in seen if low < limit)
    return left == before


def _less(ranges: Iterable[Range], others: tuple[Range, ...]) -> Iterator[Range]:
    """What is left of `ranges` without `others`."""
    for low, high in ranges:
        for first, last in others:
            if low < last and first < high:
                if low < first:
                    yield low, first
                low = last
        if low < high:
            yield low, high


def _length(ranges: Iterable[Range]) -> int:
    return sum(high - low for low, high in ranges)
