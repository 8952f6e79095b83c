"""In which order the segments of a question are generated, and what each pass must hold.

A sought token that reads a value which is neither given nor noise waits for it: what is handed over,
what an autoregressive head has to write first, what another objective generates.  Segments of one
objective that read each other's noise are generated together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from wmdsl.check.model import Segment
from wmdsl.plan.asked import DEFAULT_STEPS, Asked
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import Generation, Pass, Placed, Space
from wmdsl.plan.reach import Node, aligned, hidden, predicted
from wmdsl.plan.refusals import (
    Unanswerable,
    generated_in_a_circle,
    never_generated,
    observed_but_not_given,
    only_compared,
    steps_differ,
    without_a_path,
)
from wmdsl.plan.roles import NOISY, noise_hides, shown_as_noise, shown_clean
from wmdsl.plan.spaces import kept

SAMPLERS = {
    "flow": "euler",
    "diffusion": "ddim",
    "edm": "heun",
    "regression": "one_pass",
    "autoregressive": "next_token",
    "masked": "rounds",
    "align": "one_pass",
    "contrastive": "one_pass",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One generation with what became of every token group, and what is only approximate.

    `beside`, `pinned` and `unread` are segments that are live without being sought or known: they
    are generated jointly, held at noise, or run as placeholders whose head nobody asks.
    """

    generation: Generation
    beside: tuple[str, ...]
    pinned: tuple[str, ...]
    unread: tuple[str, ...]
    concerns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    steps: tuple[Step, ...]


def chain_of(flow: Flow, asked: Asked) -> tuple[Step, ...]:
    """The steps that answer a question; raises Unanswerable with the reason and the line."""
    for segment in asked.sought:
        _check_generated(flow, asked, segment)
    known = {segment.reference for segment in asked.given}
    steps: list[Step] = []
    for stage in asked.stages:
        for targets, until in _order(flow, [segment.reference for segment in stage], known):
            steps.append(_step(flow, asked, targets, frozenset(known), until))
            if not until:
                known.update(targets)
    _check_givens_are_read(flow, asked)
    return tuple(steps)


def _check_generated(flow: Flow, asked: Asked, segment: Segment) -> None:
    if segment.reference in flow.generates:
        return
    compared = [
        align for align in flow.model.aligns.values() if align.target.reference == segment.reference
    ]
    if not compared:
        raise never_generated(flow.model, asked, segment)
    if asked.declared:
        raise only_compared(asked, segment, compared[0])


def _targets(flow: Flow, references: Iterable[str]) -> list[Node]:
    """The nodes whose value answers for the segments."""
    nodes = []
    for reference in references:
        if reference in flow.generates:
            nodes.append(predicted(reference))
        else:
            nodes += [
                aligned(align.name)
                for align in flow.model.aligns.values()
                if align.target.reference == reference
            ]
    return nodes


def objective_of(flow: Flow, reference: str) -> str:
    generate = flow.generates.get(reference)
    return generate.objective if generate else "align"


def _order(
    flow: Flow, sought: list[str], known: set[str]
) -> Iterator[tuple[tuple[str, ...], Fraction]]:
    """Segments generated together, in order, each with the noise level at which to stop."""
    depths: dict[str, int] = {}
    until: dict[str, Fraction] = {}

    def visit(reference: str, trail: tuple[str, ...]) -> int:
        if reference in trail:
            raise generated_in_a_circle(flow, (*trail[trail.index(reference) :], reference))
        if reference not in depths:
            first = _needed_first(flow, reference, known)
            for needed, level in first.items():
                until[needed] = min(level, until.get(needed, level))
            below = [visit(needed, (*trail, reference)) for needed in first]
            depths[reference] = 1 + max(below, default=-1)
        return depths[reference]

    for reference in sought:
        visit(reference, ())
        until[reference] = Fraction(0)
    together: dict[tuple[int, str, Fraction], list[str]] = {}
    for reference, depth in depths.items():
        key = (depth, objective_of(flow, reference), until[reference])
        together.setdefault(key, []).append(reference)
    for key in sorted(together):
        yield tuple(together[key]), key[2]


def _needed_first(flow: Flow, reference: str, known: set[str]) -> Mapping[str, Fraction]:
    """Segments whose value `reference` reads, with the noise level at which it reads them."""
    objective = objective_of(flow, reference)
    needed: dict[str, Fraction] = {}
    for space, placed in _live(flow, flow.graph.before(_targets(flow, [reference]))):
        other = placed.group.segment.reference
        if other in known or other not in flow.generates or other == reference:
            continue
        level = _read_level(flow, space, placed, objective)
        if level is not None:
            needed[other] = min(level, needed.get(other, level))
    return needed


def _read_level(flow: Flow, space: Space, placed: Placed, objective: str) -> Fraction | None:
    """The noise level at which a live group reads its segment's value; None if it needs none."""
    role = flow.roles[placed.key]
    if space.time is not None and role == "noisy":
        return None if noise_hides(space.time) else space.time
    if role in ("handed", "clean"):
        return Fraction(0)
    other = flow.generates[placed.group.segment.reference].objective
    if role in ("noisy", "masked") and other != objective:
        return Fraction(0)
    return None


def _live(flow: Flow, closure: frozenset[Node]) -> Iterator[tuple[Space, Placed]]:
    """Groups whose tokens matter, in order of spaces and tokens."""
    for space in flow.spaces:
        for placed in space.groups:
            if hidden(placed.key, 0, space.time) in closure:
                yield space, placed


@dataclass(slots=True)
class _Tally:
    """What is noted while the groups of a pass are given their roles."""

    roles: dict[tuple[str, str], str] = field(default_factory=dict)
    beside: dict[str, None] = field(default_factory=dict)
    pinned: dict[str, None] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)
    concerns: dict[str, None] = field(default_factory=dict)


def _step(
    flow: Flow, asked: Asked, targets: tuple[str, ...], known: frozenset[str], until: Fraction
) -> Step:
    closure = flow.graph.before(_targets(flow, targets))
    tally = _Tally()
    for space, placed in _live(flow, closure):
        tally.roles[placed.key] = _role(flow, asked, space, placed, targets, known, tally)
    spaces = tuple(live_spaces(flow, closure))
    evaluation = Pass("+".join(targets), spaces, tally.roles)
    objective = objective_of(flow, targets[0])
    steps = _step_count(flow, asked, targets)
    generation = Generation(
        segments=targets,
        joint=tuple(tally.beside),
        generates=_generates(flow, targets),
        objective=objective,
        sampler=asked.sampler or SAMPLERS[objective],
        steps=steps,
        evaluation=evaluation,
        until=until,
        constant=_constant(flow, evaluation, (*targets, *tally.beside), closure) if steps > 1 else (),
    )
    return Step(
        generation, tuple(tally.beside), tuple(tally.pinned), tuple(tally.unread),
        tuple(tally.concerns),
    )  # fmt: skip


def _generates(flow: Flow, targets: Iterable[str]) -> tuple[str, ...]:
    names = [
        flow.generates[reference].name
        if reference in flow.generates
        else next(a.name for a in flow.model.aligns.values() if a.target.reference == reference)
        for reference in targets
    ]
    return tuple(dict.fromkeys(names))


def live_spaces(flow: Flow, closure: frozenset[Node]) -> Iterator[Space]:
    """The spaces with their live groups, up to the last block that matters."""
    for space in flow.spaces:
        layers = [
            layer
            for layer in range(space.layers + 1)
            if any(hidden(placed.key, layer, space.time) in closure for placed in space.groups)
        ]
        if layers:
            yield kept(
                space,
                lambda placed, time=space.time: hidden(placed.key, 0, time) in closure,
                layers[-1],
            )


def _role(
    flow: Flow,
    asked: Asked,
    space: Space,
    placed: Placed,
    targets: tuple[str, ...],
    known: frozenset[str],
    tally: _Tally,
) -> str:
    """The role of a live group in this pass; raises Unanswerable where it cannot have one."""
    trained = flow.roles[placed.key]
    reference = placed.group.segment.reference if placed.group.segment else ""
    if trained in ("learned", "prefix") or reference in targets:
        return trained
    if space.time is not None and trained == "noisy":
        if noise_hides(space.time) and reference not in known:
            tally.pinned[reference] = None
        return "noisy"
    if reference in known:
        return _role_of_known(flow, asked, placed, targets, tally)
    if reference not in flow.generates:
        raise observed_but_not_given(flow, asked, space, placed)
    return _role_of_unknown(flow, asked, placed, targets, tally)


def _role_of_known(
    flow: Flow, asked: Asked, placed: Placed, targets: tuple[str, ...], tally: _Tally
) -> str:
    trained, reference = flow.roles[placed.key], placed.group.segment.reference
    if trained == "placeholder":
        return trained
    if trained in ("noisy", "masked"):
        generate = flow.generates[reference]
        for target in targets:
            beside = flow.generates.get(target)
            if beside and not shown_clean(generate, beside):
                tally.concerns[
                    f"{reference} is clean while {target} is generated, which training never shows"
                ] = None
        return "clean"
    if trained == "handed" and _trained_on_predictions(flow, placed) and _is_given(asked, reference):
        tally.concerns[f"{placed.group.trunk} has read {reference} as predictions only"] = None
    return trained


def _trained_on_predictions(flow: Flow, placed: Placed) -> bool:
    return any(
        hand.training == "prediction"
        for hand in flow.model.hands.values()
        if hand.trunk == placed.group.trunk and hand.segment == placed.group.segment
    )


def _is_given(asked: Asked, reference: str) -> bool:
    return any(segment.reference == reference for segment in asked.given)


def _role_of_unknown(
    flow: Flow, asked: Asked, placed: Placed, targets: tuple[str, ...], tally: _Tally
) -> str:
    trained, reference = flow.roles[placed.key], placed.group.segment.reference
    if trained == "placeholder":
        tally.unread[reference] = None
        return trained
    if trained == "noisy" and placed.group.segment in asked.pinned:
        tally.pinned[reference] = None
        for target in targets:
            beside = flow.generates.get(target)
            if beside and not shown_as_noise(flow.generates[reference], beside):
                tally.concerns[
                    f"{reference} is pure noise while {target} is generated, which training never "
                    "shows"
                ] = None
        return "pinned"
    tally.beside[reference] = None
    return trained


def _step_count(flow: Flow, asked: Asked, targets: tuple[str, ...]) -> int:
    objective = objective_of(flow, targets[0])
    if objective in ("regression", "align", "contrastive"):
        return 1
    if objective == "autoregressive":
        return sum(
            flow.model.trunks[trunk].group(name).count
            for target in targets
            for trunk, name in flow.generates[target].groups
            if flow.model.trunks[trunk].group(name).segment.reference == target
        )
    streams = [target.partition(".")[0] for target in targets]
    counts = {asked.steps.get(stream, DEFAULT_STEPS) for stream in streams}
    if len(counts) > 1:
        raise steps_differ(asked, targets)
    return counts.pop()


def _constant(
    flow: Flow, evaluation: Pass, varying: Iterable[str], closure: frozenset[Node]
) -> tuple[tuple[str, str], ...]:
    """Groups whose states stay the same from step to step of one generation."""
    moving = set(varying)
    told_all = {
        space.name
        for space in evaluation.spaces
        if any(flow.model.trunks[trunk].told == "all" for trunk in space.trunks)
    }
    starts = [
        hidden(placed.key, 0, space.time)
        for space in evaluation.spaces
        for placed in space.groups
        if space.time is None
        and (
            space.name in told_all
            or (placed.group.segment and placed.group.segment.reference in moving)
        )
    ]
    changed = flow.graph.after(starts) & closure
    touched = {(node.group, node.time) for node in changed if node.kind == "hidden"}
    return tuple(
        placed.key
        for space in evaluation.spaces
        for placed in space.groups
        if (placed.key, space.time) not in touched
    )


def _check_givens_are_read(flow: Flow, asked: Asked) -> None:
    """A future that is given must make a difference; else the question is another one."""
    closure = flow.graph.before(_targets(flow, [segment.reference for segment in asked.sought]))
    deep = closure | flow.deployed().before(
        _targets(flow, [segment.reference for segment in asked.sought])
    )
    for segment in asked.given:
        node = Node("segment", segment.reference)
        if not segment.observed and node not in deep:
            raise without_a_path(flow, asked, segment)


__all__ = ["NOISY", "Step", "Unanswerable", "chain_of"]
