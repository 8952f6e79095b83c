"""Prefix tokens of each frame: seen where a token of their frame is seen, and seeing as it sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wmdsl.plan.nodes import Placed
from wmdsl.plan.ranges import Row, Span, by_block, canonical, overlaps


def with_frames_prefixes(
    rows: Sequence[Row], prefixes: Sequence[tuple[Placed, Sequence[Placed]]]
) -> tuple[Row, ...]:
    """Rows of an attention space and of the prefixes of its frames.

    `rows` say nothing of these prefixes yet; each comes with the groups that hold its frames.
    """
    blocks = {block: list(keys) for block, keys in by_block(rows).items()}
    pairs = [pair for prefix, groups in prefixes for pair in _frames(prefix, groups)]
    for keys in blocks.values():
        keys += [own for own, frame in pairs if any(overlaps(frame, key) for key in keys)]
    for own, frame in pairs:
        seen = [key for block, keys in blocks.items() if overlaps(block, frame) for key in keys]
        blocks[own] = [*seen, own]
    return canonical(blocks.items())


def _frames(prefix: Placed, groups: Sequence[Placed]) -> Iterator[tuple[Span, Span]]:
    """(tokens of the prefix, tokens of the frame) of every frame."""
    each, start = prefix.group.per_frame, prefix.start
    for placed in groups:
        size = placed.group.per_frame
        for frame in range(placed.group.frames):
            first = placed.start + frame * size
            yield (start, start + each), (first, first + size)
            start += each
