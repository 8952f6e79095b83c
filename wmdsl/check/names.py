"""References -> what they name: segments, codecs, token groups."""

from __future__ import annotations

from collections.abc import Iterable

from wmdsl.check import errors
from wmdsl.check.model import Codec, Segment, Stream, TokenGroup, Trunk
from wmdsl.check.scope import Draft, Mistake
from wmdsl.diagnostics import Diagnostic
from wmdsl.record import record
from wmdsl.syntax import ast

GroupName = tuple[str, str]  # (trunk, group)
NAMED = ("stream", "codec", "trunk", "join", "cross", "condition", "align", "hand")


@record
class Encoded:
    """A segment and the codec it goes through; None for learned tokens."""

    segment: Segment
    codec: Codec | None


def stream_of(draft: Draft, reference: ast.Reference) -> Stream:
    """The stream that a reference begins with."""
    name = reference.path[0]
    if name in draft.streams:
        if draft.streams[name] is None:
            raise Mistake
        return draft.streams[name]
    other = draft.spec.find(name, *NAMED)
    raise missing(draft, name, errors.names.unknown_stream(reference, draft.streams, other))


def missing(draft: Draft, name: str, diagnostic: Diagnostic) -> Mistake:
    """What is missing is reported once; not at all where text with a syntax error names it."""
    known = name in draft.missing or draft.spec.may_declare(name)
    draft.missing.add(name)
    return Mistake(None if known else diagnostic)


def segments(draft: Draft, expression: ast.Expression) -> tuple[Segment, ...]:
    """The segments a reference names: one, a slice of one, or all of a stream."""
    if not isinstance(expression, ast.Reference):
        raise Mistake(errors.names.segment_wanted(expression))
    stream = stream_of(draft, expression)
    rest = expression.path[1:]
    if not rest:
        found = stream.segments
    else:
        segment = stream.segment(rest[0])
        if segment is None or len(rest) > 1:
            raise Mistake(errors.names.unknown_segment(expression, stream))
        found = (segment,)
    if expression.index is None:
        return found
    return _slice(found, expression)


def _slice(found: tuple[Segment, ...], reference: ast.Reference) -> tuple[Segment, ...]:
    """Samples of the segments together, counted from 0: `clip[0..5]`, `clip.future[0]`."""
    low, high = _bounds(reference)
    if not 0 <= low <= high < sum(len(segment.offsets) for segment in found):
        raise Mistake(errors.names.bad_slice(reference, found))
    parts, start = [], 0
    for segment in found:
        first, last = max(low - start, 0), min(high - start, len(segment.offsets) - 1)
        start += len(segment.offsets)
        if first <= last:
            parts.append(_part(segment, first, last, reference))
    return tuple(parts)


def _bounds(reference: ast.Reference) -> tuple[int, int]:
    index = reference.index
    if isinstance(index, ast.Name):
        raise Mistake(errors.names.slice_by_name(reference))
    low, high = (index.low, index.high) if isinstance(index, ast.Range) else (index.value,) * 2
    return int(low), int(high)


def _part(segment: Segment, first: int, last: int, reference: ast.Reference) -> Segment:
    if first == 0 and last == len(segment.offsets) - 1:
        return segment
    name = f"{segment.name}[{first}..{last}]"
    return Segment(segment.stream, name, segment.offsets[first : last + 1], reference.span)


def all_segments(draft: Draft, items: Iterable[ast.Item]) -> tuple[Segment, ...]:
    """The segments of a list, each once; a second mention is a mistake."""
    found: dict[str, ast.Item] = {}
    result = []
    for item in items:
        for segment in segments(draft, single(item)):
            if segment.reference in found:
                first = found[segment.reference].span
                raise Mistake(errors.names.listed_twice(segment.reference, first, item.span))
            found[segment.reference] = item
            result.append(segment)
    return tuple(result)


def single(item: ast.Item) -> ast.Expression:
    """The one term of an item."""
    if len(item.terms) > 1:
        raise Mistake(errors.names.one_name_wanted(item))
    return item.terms[0]


def trunk_of(draft: Draft, reference: ast.Expression, what: str) -> Trunk:
    """The trunk that a reference names."""
    if not isinstance(reference, ast.Reference):
        raise Mistake(errors.names.name_wanted(reference, what))
    name = reference.path[0]
    if name not in draft.trunks:
        other = draft.spec.find(name, *NAMED)
        raise missing(draft, name, errors.names.unknown_trunk(reference, what, draft.trunks, other))
    if draft.trunks[name] is None:
        raise Mistake
    return draft.trunks[name]


def groups_of_trunk(draft: Draft, trunk: Trunk, reference: ast.Reference) -> tuple[TokenGroup, ...]:
    """Token groups of `trunk.stream.segment`: all of the trunk where only the trunk is named."""
    rest = reference.path[1:]
    found = tuple(group for group in trunk.groups if _matches(group, rest))
    if not found:
        if not draft.readable or (rest and draft.streams.get(rest[0], False) is None):
            raise Mistake
        raise missing(draft, reference.dotted, errors.couplings.no_group(reference, trunk))
    return found


def _matches(group: TokenGroup, path: tuple[str, ...]) -> bool:
    """Whether a path of no, one or two names (stream, segment) names this group."""
    if len(path) > 1 and group.segment.name.partition("[")[0] != path[1]:
        return False
    return not path or (group.segment.stream == path[0] and len(path) <= 2)


def groups(draft: Draft, expression: ast.Expression) -> tuple[TokenGroup, ...]:
    """Token groups of any trunk that a reference names: a trunk, a stream or a segment."""
    if not isinstance(expression, ast.Reference):
        raise Mistake(errors.names.segment_wanted(expression))
    name = expression.path[0]
    if name in draft.trunks:
        trunk = trunk_of(draft, expression, "a trunk or a stream")
        return groups_of_trunk(draft, trunk, expression)
    if name not in draft.streams:
        known = {**draft.streams, **draft.trunks}
        other = draft.spec.find(name, *NAMED)
        raise missing(draft, name, errors.names.unknown_stream(expression, known, other))
    named = segments(draft, expression)
    wanted = {segment.reference for segment in named}
    found = tuple(
        group
        for trunk in draft.trunks.values()
        if trunk is not None
        for group in trunk.groups
        if group.name in wanted or (expression.index is None and _matches(group, expression.path))
    )
    if not found:
        if not draft.readable or None in draft.trunks.values():
            raise Mistake
        draft.missing.update(wanted)
        raise missing(
            draft, f"{expression.dotted} in a trunk", errors.couplings.stands_nowhere(expression)
        )
    return found
