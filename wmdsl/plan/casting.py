"""The role of every live token group in one pass of a question."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from wmdsl.check.model import Generate
from wmdsl.plan.asked import Asked
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import Placed, Space
from wmdsl.plan.refusals import observed_but_not_given
from wmdsl.plan.roles import noise_hides, shown_as_noise, shown_clean, shown_in_layout

GroupName = tuple[str, str]


@dataclass(slots=True)
class Cast:
    """Roles by (trunk, group), and what became of segments that are neither sought nor known.

    `beside` are generated jointly and ignored, `pinned` held at noise, `unread` run as placeholders
    whose head nobody asks; `concerns` are roles that training never showed.
    """

    roles: dict[GroupName, str] = field(default_factory=dict)
    beside: dict[str, None] = field(default_factory=dict)
    pinned: dict[str, None] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)
    concerns: dict[str, None] = field(default_factory=dict)

    def call_noise(self, flow: Flow, reference: str, targets: Iterable[str]) -> None:
        """Note where training never shows a segment as pure noise beside a target."""
        for other in _generating(flow, targets):
            if not shown_as_noise(flow.generates[reference], other):
                self.concerns[_unseen(reference, "pure noise", other)] = None


def cast(
    flow: Flow,
    asked: Asked,
    targets: tuple[str, ...],
    known: frozenset[str],
    live: Iterable[tuple[Space, Placed]],
) -> Cast:
    """Roles of the live groups; raises Unanswerable for an observation that is not given."""
    made = Cast()
    for space, placed in live:
        trained = flow.roles[placed.key]
        segment = placed.group.segment
        reference = segment.reference if segment else ""
        if trained in ("learned", "prefix") or reference in targets:
            role = trained
        elif space.time is not None and trained == "noisy":
            role = _held(space, reference, known, made)
        elif reference in known:
            shown = shown_in_layout(flow.model, reference, targets)
            role = _known(flow, asked, placed, () if shown else targets, made)
        elif reference in flow.generates:
            role = _unknown(flow, asked, placed, targets, made)
        else:
            raise observed_but_not_given(flow, asked, space, placed)
        made.roles[placed.key] = role
    return made


def _held(space: Space, reference: str, known: frozenset[str], made: Cast) -> str:
    """A group in a tap's own pass, at the noise level that the tap fixes."""
    if noise_hides(space.time) and reference not in known:
        made.pinned[reference] = None
    return "noisy" if space.time else "clean"


def _known(flow: Flow, asked: Asked, placed: Placed, targets: Iterable[str], made: Cast) -> str:
    trained, reference = flow.roles[placed.key], placed.group.segment.reference
    if trained in ("noisy", "masked"):
        for other in _generating(flow, targets):
            if not shown_clean(flow.generates[reference], other):
                made.concerns[_unseen(reference, "clean", other)] = None
        return "clean"
    if trained == "handed" and _read_as_prediction(flow, placed):
        if any(segment.reference == reference for segment in asked.given):
            concern = f"{placed.group.trunk} has only ever read predictions of {reference}"
            made.concerns[concern] = None
    return trained


def _read_as_prediction(flow: Flow, placed: Placed) -> bool:
    return any(
        hand.training == "prediction"
        for hand in flow.model.hands.values()
        if hand.trunk == placed.group.trunk and hand.segment == placed.group.segment
    )


def _unknown(flow: Flow, asked: Asked, placed: Placed, targets: Iterable[str], made: Cast) -> str:
    trained, reference = flow.roles[placed.key], placed.group.segment.reference
    if trained == "placeholder":
        made.unread[reference] = None
        return trained
    if trained == "noisy" and placed.group.segment in asked.pinned:
        made.pinned[reference] = None
        made.call_noise(flow, reference, targets)
        return "pinned"
    made.beside[reference] = None
    return trained


def _generating(flow: Flow, targets: Iterable[str]) -> list[Generate]:
    return [flow.generates[target] for target in targets if target in flow.generates]


def _unseen(reference: str, state: str, other: Generate) -> str:
    names = " and ".join(segment.reference for segment in other.segments)
    return f"training never shows {reference} as {state} while {names} is generated"
