"""The ways of segments that are denoised together: their own steps, and where they stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from wmdsl.check.queries import NOISED
from wmdsl.plan.asked import DEFAULT_STEPS, Asked
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import Walk
from wmdsl.plan.refusals import stopped_elsewhere


def steps_of(asked: Asked, references: Iterable[str], targets: Sequence[str]) -> dict[str, int]:
    """Steps of each segment; one that is only generated beside the targets takes no more."""
    wanted = {target: asked.steps.get(_stream(target), DEFAULT_STEPS) for target in targets}
    most = max(wanted.values())
    return {
        reference: wanted.get(reference) or min(asked.steps.get(_stream(reference), most), most)
        for reference in references
    }


def _stream(reference: str) -> str:
    return reference.partition(".")[0]


def walks_of(
    flow: Flow, asked: Asked, targets: Sequence[str], beside: Iterable[str], common: Walk
) -> dict[str, Walk]:
    """The segments' own ways; none where all go the common one.  Raises Unanswerable for one that a
    tap reads at another level than it stops at."""
    moving = (*targets, *beside)
    if any(flow.generates[r].objective not in NOISED for r in moving if r in flow.generates):
        return {}
    steps = steps_of(asked, moving, targets)
    found = {}
    for reference in (r for r in moving if r in flow.generates):
        stop = asked.terminal.get(_stream(reference), common.stop)
        if common.stop not in (0, stop):
            raise stopped_elsewhere(asked, reference, common.stop)
        found[reference] = Walk(steps[reference], stop)
    return found if set(found.values()) - {common} else {}


def told_apart(flow: Flow, walks: Mapping[str, Walk]) -> Iterator[str]:
    """Segments that go ways of their own, though training gives them one noise level."""
    for generate in flow.model.generates.values():
        tied = [s.reference for s in generate.segments if s.reference in walks]
        if generate.times == "shared" and len({walks[reference] for reference in tied}) > 1:
            yield f"training never shows {' and '.join(tied)} at different noise levels"
