"""Why a question has no answer: one constructor per reason, each naming the line to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wmdsl.check.model import Align, Model, Segment
from wmdsl.source import Span

if TYPE_CHECKING:
    from wmdsl.plan.asked import Asked
    from wmdsl.plan.flow import Flow
    from wmdsl.plan.nodes import Placed, Space

from wmdsl.plan.spaces import row_of, rule_span


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


def only_compared(asked: Asked, segment: Segment, align: Align) -> Unanswerable:
    return Unanswerable(
        f"{segment.reference} is never generated: align {align.name} only compares its features "
        f"({at(align.span)})",
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


def observed_but_not_given(
    flow: Flow, asked: Asked, space: Space, placed: Placed
) -> Unanswerable:
    """A token that is always there in training reaches what is sought, but is not given."""
    reference = placed.group.segment.reference
    reader = next(
        (
            other
            for other in space.groups
            if other.group.segment in asked.sought and _sees(flow, space, other, placed)
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


def _sees(flow: Flow, space: Space, reader: Placed, read: Placed) -> bool:
    from wmdsl.plan.flow import visible_groups

    return (reader, read) in visible_groups(space)


def steps_differ(asked: Asked, targets: Sequence[str]) -> Unanswerable:
    names = " and ".join(targets)
    return Unanswerable(
        f"{names} are generated together but have different numbers of steps ({at(asked.span)})",
        asked.span,
        f"give {names} the same steps, or generate one `then` the other",
    )


def without_a_path(flow: Flow, asked: Asked, segment: Segment) -> Unanswerable:
    """A given future makes no difference to what is sought."""
    sought = ", ".join(wanted.reference for wanted in asked.sought)
    placed = [
        (space, group)
        for space in flow.spaces
        for group in space.groups
        if group.group.segment == segment
    ]
    silent = [group for _, group in placed if flow.roles[group.key] == "placeholder"]
    if placed and len(silent) == len(placed):
        span = flow.generates[segment.reference].span
        return Unanswerable(
            f"{segment.reference} stands in {silent[0].group.trunk} as learned placeholders "
            f"({at(span)}), so that nothing reads its value",
            span,
            f"generate {segment.reference} by flow, or hand it to the trunk that predicts {sought}",
        )
    for space, group in placed:
        reader = next((g for g in space.groups if g.group.segment in asked.sought), None)
        if reader is not None:
            span = row_of(flow.model, space, reader.key)
            return Unanswerable(
                f"{reader.group.name} does not see {group.group.name} in {space.name} ({at(span)})",
                span,
                f"write `{reader.group.name} sees ..., {group.group.name}` there",
            )
    return _no_shared_trunk(flow, asked, segment, sought)


def _no_shared_trunk(flow: Flow, asked: Asked, segment: Segment, sought: str) -> Unanswerable:
    generate = flow.generates.get(asked.sought[0].reference)
    trunk = flow.model.trunks[generate.groups[0][0]] if generate else None
    span = trunk.span if trunk else asked.span
    name = trunk.name if trunk else "the predictor"
    return Unanswerable(
        f"{segment.reference} has no tokens that reach {sought}: {name} does not hold any "
        f"({at(span)})",
        span,
        f"add {segment.reference} to the tokens of {name}",
    )
