"""Chunks in control steps: how long an action is held, and what of a chunk is executed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from wmdsl.check.model import Query, Segment, Stream
from wmdsl.runtime import errors


@dataclass(frozen=True, slots=True)
class Pace:
    """All in control steps: `hold` of one action, `behind` of those predicted for the time before
    now (some models predict a whole window again), `ahead` of those from now on, and `execute` of
    these before the model is asked again."""

    hold: int
    behind: int
    ahead: int
    execute: int


def pace_of(
    stream: Stream,
    segment: Segment,
    query: Query,
    control_hz: Fraction,
    execute: int | None = None,
) -> Pace:
    """The pace of a query whose chunk is `segment`; `execute` actions in place of the declared.

    Raises RunError where an action does not last whole control steps, where no action
    begins now, and for more actions than there are.
    """
    ratio = control_hz / stream.rate_hz
    if ratio.denominator != 1:
        raise errors.rate_misfit(stream, control_hz)
    first, length = segment.offsets[0], segment.length
    spacing = segment.offsets[1] - first if length > 1 else 1
    ahead = length + first // spacing
    if first > 0 or first % spacing or ahead < 1:
        raise errors.none_begins_now(query.name, segment.reference, first)
    count = execute or query.execute or ahead
    if count > ahead:
        raise errors.chunk_too_short(
            query.name, f"{count} steps are to be executed, {ahead} are predicted from now on",
            f"execute at most {ahead} steps",
        )  # fmt: skip
    hold = spacing * ratio.numerator
    return Pace(hold, (length - ahead) * hold, ahead * hold, count * hold)
