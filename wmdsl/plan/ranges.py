"""Sets of query-key pairs as rows of ranges: merging, restriction to kept tokens, counting.

A row (query_start, query_end, key_start, key_end) says that these queries see these keys.
Canonical rows are in order, query blocks are disjoint or identical, key ranges of a block neither
touch nor overlap, and neighbouring blocks see different keys.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property

Span = tuple[int, int]  # start, end (excluded)
Row = tuple[int, int, int, int]  # query_start, query_end, key_start, key_end


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The union of key ranges: ascending, no two touching, none empty."""
    spans = tuple(spans)
    if len(spans) == 1 and spans[0][0] < spans[0][1]:
        return spans
    union: list[Span] = []
    for start, end in sorted(spans):
        if start == end:
            continue
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return tuple(union)


def canonical(blocks: Iterable[tuple[Span, Iterable[Span]]]) -> tuple[Row, ...]:
    """Rows of disjoint query blocks with their (unordered, overlapping) key ranges."""
    joined: list[tuple[int, int, tuple[Span, ...]]] = []
    for (start, end), keys in sorted((block, merged(keys)) for block, keys in blocks):
        if joined and joined[-1][1] == start and joined[-1][2] == keys:
            joined[-1] = (joined[-1][0], end, keys)
        else:
            joined.append((start, end, keys))
    return tuple((start, end, *key) for start, end, keys in joined for key in keys)


def by_block(rows: Iterable[Row]) -> Mapping[Span, tuple[Span, ...]]:
    """Key ranges of each query block."""
    blocks: dict[Span, list[Span]] = {}
    for query_start, query_end, key_start, key_end in rows:
        blocks.setdefault((query_start, query_end), []).append((key_start, key_end))
    return {block: tuple(keys) for block, keys in blocks.items()}


def restricted(rows: tuple[Row, ...], kept: tuple[Span, ...]) -> tuple[Row, ...]:
    """The rows among kept tokens only, renumbered as if the others had never been there."""
    spans = merged(kept)
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    shifts, place = [], 0
    for start, end in spans:
        shifts.append(place - start)
        place += end - start

    @cache
    def place_of(token: int) -> int:
        """The new place of a token, or of the first one kept behind it."""
        at = bisect_right(starts, token) - 1
        return min(token, ends[at]) + shifts[at] if at >= 0 else 0

    def moved(span: Span) -> Span:
        """What is left of a span: one piece, since what is kept moves together."""
        return place_of(span[0]), place_of(span[1])

    left = ((moved(block), map(moved, keys)) for block, keys in by_block(rows).items())
    return canonical((block, keys) for block, keys in left if block[0] < block[1])


def shifted(rows: Iterable[Row], offset: int) -> tuple[Row, ...]:
    """The rows moved by `offset` tokens along both axes."""
    return tuple(tuple(edge + offset for edge in row) for row in rows)


def pairs(rows: Iterable[Row]) -> int:
    """How many query-key pairs are visible."""
    return sum((row[1] - row[0]) * (row[3] - row[2]) for row in rows)


def is_dense(rows: Sequence[Row], tokens: int) -> bool:
    """Whether every query sees every key, so that no mask is needed."""
    return tuple(rows) == ((0, tokens, 0, tokens),)


def most_ranges(rows: Iterable[Row]) -> int:
    """The largest number of key ranges of one query."""
    return max((len(keys) for keys in by_block(rows).values()), default=0)


def overlaps(left: Span, right: Span) -> bool:
    return max(left[0], right[0]) < min(left[1], right[1])


class Rows:
    """Canonical rows of some tokens, or of those kept among them.

    They are made when they are first read, and once for the same tokens: most passes of a query
    are neither printed nor run.
    """

    def __init__(self, make: Callable[[], tuple[Row, ...]]) -> None:
        self._make = make
        self._among: dict[tuple[Span, ...], Rows] = {}

    @cached_property
    def ranges(self) -> tuple[Row, ...]:
        return self._make()

    @cached_property
    def pairs(self) -> int:
        return pairs(self.ranges)

    def among(self, kept: tuple[Span, ...]) -> Rows:
        """The rows among kept tokens (ascending spans), renumbered."""
        if kept not in self._among:
            self._among[kept] = Rows(lambda: restricted(self.ranges, kept))
        return self._among[kept]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and (self is other or self.ranges == other.ranges)

    def __hash__(self) -> int:
        return hash(self.ranges)
