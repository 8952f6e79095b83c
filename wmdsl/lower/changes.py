"""What a change is added to: the last sample before a generated segment, as tokens of its codec."""

from __future__ import annotations

from dataclasses import replace

from wmdsl.check.model import Generate, Segment, TokenGroup
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import Frame, repeated
from wmdsl.lower.program import Expression, of


def added(
    frame: Frame, generate: Generate, group: TokenGroup, output: Expression, draws: int = 1
) -> Expression:
    """The data that a head's output says, where it says their change; else the output."""
    if generate.predict != "change":
        return output
    return last_tokens(frame, group, draws) + output


def last_tokens(frame: Frame, group: TokenGroup, draws: int = 1) -> Expression:
    """Tokens of the last sample before the group's segment, [B, T, C] or the same of all steps."""
    before = frame.context.stream(group.segment).before(group.segment)
    if before is None or not frame.knows(before):
        message = f"{group.segment.reference} changes from a sample that is not given"
        raise Unsupported(message, group.span)
    tokens = last = frame.tokens(_last(before), group.codec)
    if group.frames > 1 and group.per_frame > 1:
        tokens = of(tokens, "repeat")(1, group.frames, 1)
    if draws > 1:
        tokens = repeated(tokens, draws)
    if tokens is last:
        return last
    key, wanted = ("before", group.segment.reference), f"{frame.name_of(group.segment)}_before"
    return frame.once(key, wanted, tokens)


def _last(segment: Segment) -> Segment:
    """The slice of a segment that holds its last sample alone."""
    if segment.length == 1:
        return segment
    last = segment.length - 1
    return replace(segment, name=f"{segment.name}[{last}..{last}]", offsets=segment.offsets[-1:])
