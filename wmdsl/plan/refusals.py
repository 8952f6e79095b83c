"""Why a question has no answer: one constructor per reason, each naming the line to change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from wmdsl.check.model import Model, Segment
from wmdsl.plan.asked import Asked
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import Placed, Space
from wmdsl.plan.spaces import row_of, rule_span
from wmdsl.source import Span


class Unanswerable(Exception):
    """`because` is the reason, `span` the line that forbids the answer, `help` what to write."""

    def __init__(self, because: str, span: Span, help: str = "") -> None:
        super().__init__(because)
        self.because = because
        self.span = span
        self.help = help


def at(span: Span) -> str:
    """`file.wm:12`, with the file's own name only."""
    return f"{span.source.name.rpartition('/')[2]}:{span.line}"


def never_generated(model: Model, asked: Asked, segment: Segment) -> Unanswerable:
    stream = model.streams[segment.stream]
    return Unanswerable(
        f"{segment.reference} is never generated ({at(stream.span)})",
        asked.span,
        f"add `generate NAME: {segment.reference} by flow`",
    )


def generated_in_a_circle(flow: Flow, circle: Sequence[str]) -> Unanswerable:
    names = " needs ".join(circle)
    return Unanswerable(
        f"{names}: none of them can be generated first",
        flow.generates[circle[0]].span,
        f"hide {circle[1]} from {circle[0]} in the attend, or generate both by one objective",
    )


def observed_but_not_given(flow: Flow, asked: Asked, space: Space, placed: Placed) -> Unanswerable:
    """A token that is always there in training reaches what is sought, but is not given."""
    reference = placed.group.segment.reference
    reader = next(
        (
            other
            for other in space.groups
            if other.group.segment in asked.sought and (other, placed) in flow.sights[space.name]
        ),
        placed,
    )
    sought = ", ".join(segment.reference for segment in asked.sought)
    span = rule_span(flow.model, space, reader.key, placed.key)
    return Unanswerable(
        f"{reference} reaches {sought} in {space.name} ({at(span)}) but is not given",
        span,
        f"give {reference} to query {asked.name}, or take it out of what {sought} sees",
    )


def read_but_not_given(asked: Asked, reference: str, span: Span) -> Unanswerable:
    """A coupling or extern that reaches what is sought reads something that is not given."""
    sought = ", ".join(segment.reference for segment in asked.sought)
    return Unanswerable(
        f"{reference} is read on the way to {sought} ({at(span)}) but is not given",
        span,
        f"give {reference} to query {asked.name}",
    )


def steps_differ(asked: Asked, targets: Sequence[str]) -> Unanswerable:
    names = " and ".join(targets)
    return Unanswerable(
        f"{names} are generated together but have different numbers of steps ({at(asked.span)})",
        asked.span,
        f"give {names} the same steps, or generate one `then` the other",
    )


def stopped_but_read(asked: Asked, reference: str, targets: Sequence[str]) -> Unanswerable:
    """What stays noisy is read as data."""
    return Unanswerable(
        f"{reference} stops short of data ({at(asked.span)}), but is read as data while "
        f"{' and '.join(targets)} is generated",
        asked.span,
        f"take {reference.partition('.')[0]} out of `terminal`",
    )


def stopped_elsewhere(asked: Asked, reference: str, read: Fraction) -> Unanswerable:
    """A tap reads a segment at a noise level of its own."""
    return Unanswerable(
        f"{reference} is read at noise level {float(read):g} and cannot stop at another "
        f"({at(asked.span)})",
        asked.span,
        f"take {reference.partition('.')[0]} out of `terminal`, or change the tap's `at`",
    )


def without_a_path(flow: Flow, asked: Asked, segment: Segment) -> Unanswerable:
    """A given future makes no difference to what is sought."""
    sought = ", ".join(wanted.reference for wanted in asked.sought)
    standing = [
        (space, placed)
        for space in flow.spaces
        for placed in space.groups
        if placed.group.segment == segment
    ]
    if standing and all(flow.roles[placed.key] == "placeholder" for _, placed in standing):
        return _only_placeholders(flow, segment, standing[0][1], sought)
    predicting = _predicting_groups(flow, asked)
    for space, placed in standing:
        reader = next((group for group in space.groups if group.key in predicting), None)
        if reader is not None:
            return _not_seen(flow, space, reader, placed)
    return _no_shared_trunk(flow, segment, predicting, sought)


def _predicting_groups(flow: Flow, asked: Asked) -> dict[tuple[str, str], None]:
    """The token groups whose states become what is sought."""
    sought = {segment.reference for segment in asked.sought}
    groups = {
        name: None
        for reference in sought & set(flow.generates)
        for name in flow.generates[reference].groups
        if name[1] == reference
    }
    for align in flow.model.aligns.values():
        if align.target.reference in sought and align.source.trunk is not None:
            trunk = flow.model.trunks[align.source.trunk]
            names = align.source.groups or tuple(group.name for group in trunk.groups)
            groups |= {(trunk.name, name): None for name in names}
    return groups


def _only_placeholders(flow: Flow, segment: Segment, placed: Placed, sought: str) -> Unanswerable:
    span = flow.generates[segment.reference].span
    return Unanswerable(
        f"{segment.reference} stands in {placed.group.trunk} as learned placeholders ({at(span)}), "
        "so that nothing reads its value",
        span,
        f"generate {segment.reference} by flow, or hand it to the trunk that predicts {sought}",
    )


def _not_seen(flow: Flow, space: Space, reader: Placed, placed: Placed) -> Unanswerable:
    span = row_of(flow.model, space, reader.key)
    return Unanswerable(
        f"{reader.group.name} does not see {placed.group.name} in {space.name} ({at(span)})",
        span,
        f"write `{reader.group.name} sees ..., {placed.group.name}` there",
    )


def _no_shared_trunk(
    flow: Flow, segment: Segment, predicting: Iterable[tuple[str, str]], sought: str
) -> Unanswerable:
    trunk = flow.model.trunks[next(iter(predicting))[0]]
    return Unanswerable(
        f"{segment.reference} has no tokens that reach {sought}: {trunk.name} does not hold any "
        f"({at(trunk.span)})",
        trunk.span,
        f"add {segment.reference} to the tokens of {trunk.name}",
    )
