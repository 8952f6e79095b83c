"""An attention space inside a sampling loop: tokens that stay apart from tokens that change.

The keys and values of what stays are computed once, before the loop; in the loop the changing
tokens see first those, then themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from itertools import pairwise

from wmdsl.check.model import Model, TokenSource
from wmdsl.plan.nodes import Generation, Placed, Space
from wmdsl.plan.ranges import Row, Span, by_block, canonical
from wmdsl.plan.spaces import kept
from wmdsl.record import record

UNSPLIT = ("mlp", "unet")
GroupName = tuple[str, str]
Tap = tuple[str, int | None]


@record
class Split:
    """The groups of `whole` in two: `still` and `moving` have places of their own.  `taps` are the
    (trunk, layer) whose still tokens somebody reads, `read` those whose moving tokens; layer None
    is behind the final norm."""

    whole: Space
    still: Space
    moving: Space
    taps: tuple[Tap, ...]
    read: tuple[Tap, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """From moving queries to keys of [still, moving]."""
        names = {placed.key for placed in self.moving.groups}
        still = [placed for placed in self.whole.groups if placed.key not in names]
        moving = [placed for placed in self.whole.groups if placed.key in names]
        return _rows(self.whole.ranges, _spans(moving), _spans([*still, *moving]))

    @property
    def dense(self) -> bool:
        """Whether every moving token sees all tokens."""
        return self.rows == ((0, self.moving.tokens, 0, self.whole.tokens),)


def split(model: Model, step: Generation, space: Space) -> Split | None:
    """The two parts of a space; None where all of it changes, or nothing does, or where what is
    read is more than keys and values."""
    if model.trunks[space.trunks[0]].kind in UNSPLIT or _read_block_by_block(model, space):
        return None
    still = [placed for placed in space.groups if placed.key in step.constant]
    moving = [placed for placed in space.groups if placed.key not in step.constant]
    if not still or not moving:
        return None
    names = {placed.key for placed in moving}
    return Split(
        whole=space,
        still=kept(space, lambda placed: placed.key not in names, space.layers),
        moving=kept(space, lambda placed: placed.key in names, space.layers),
        taps=taps(model, step, space, {placed.key for placed in still}),
        read=taps(model, step, space, names),
    )


def splits(model: Model, step: Generation) -> Iterator[Split]:
    """Of the spaces that every step of a generation runs, those that are cut in two."""
    found = (split(model, step, space) for space in ahead(step)[1])
    return (parts for parts in found if parts is not None)


def _read_block_by_block(model: Model, space: Space) -> bool:
    """Whether a cross reads the states behind each block of a space."""
    paired = (cross for cross in model.crosses.values() if cross.paired)
    return any(source.trunk in space.trunks for cross in paired for source in cross.sources)


def taps(model: Model, step: Generation, space: Space, groups: Set[GroupName]) -> tuple[Tap, ...]:
    """The hidden states of some groups of a space that something in the same pass reads."""
    live = {name for other in step.evaluation.spaces for name in other.trunks}
    crosses = [cross for cross in model.crosses.values() if live & set(cross.targets)]
    conditions = [
        entry for entry in model.conditions.values() if entry.trunk is None or entry.trunk in live
    ]
    read = {
        (source.trunk, source.layer)
        for coupling in (*crosses, *conditions)
        for source in coupling.sources
        if source.trunk in space.trunks
        and source.time == space.time
        and any(trunk == source.trunk and _named(source, name) for trunk, name in groups)
    }
    if step.objective == "autoregressive":
        read |= {(trunk, None) for trunk, name in _before(step, space) if (trunk, name) in groups}
    return tuple(sorted(read, key=lambda tap: (tap[0], -1 if tap[1] is None else tap[1])))


def _named(source: TokenSource, group: str) -> bool:
    return not source.groups or group in source.groups


def _before(step: Generation, space: Space) -> Iterator[GroupName]:
    """The groups in front of those that are written token by token."""
    for trunk in space.trunks:
        for left, right in pairwise(space.of_trunk(trunk)):
            if right.group.name in step.segments:
                yield left.key


def is_still(space: Space, constant: Collection[GroupName]) -> bool:
    """Whether no step of a generation changes anything in a space."""
    return all(placed.key in constant for placed in space.groups)


def ahead(step: Generation) -> tuple[tuple[Space, ...], tuple[Space, ...]]:
    """Spaces of a pass that are run once before its loop, and those that every step runs."""
    spaces = step.evaluation.spaces
    once = tuple(space for space in spaces if is_still(space, step.constant))
    return once, tuple(space for space in spaces if space not in once)


def _spans(groups: Iterable[Placed]) -> list[Span]:
    return [(placed.start, placed.end) for placed in groups]


def _rows(rows: tuple[Row, ...], queries: Sequence[Span], keys: Sequence[Span]) -> tuple[Row, ...]:
    """The rows from some tokens to tokens in another order, renumbered on both sides."""
    return canonical(
        (block, [part for key in seen for part in _moved(key, keys)])
        for whole, seen in by_block(rows).items()
        for block in _moved(whole, queries)
    )


def _moved(span: Span, kept: Sequence[Span]) -> list[Span]:
    """The parts of a span that are kept, where they stand now."""
    parts, place = [], 0
    for start, end in kept:
        low, high = max(span[0], start), min(span[1], end)
        if low < high:
            parts.append((low - start + place, high - start + place))
        place += end - start
    return parts
