"""In which order the segments of a question are generated, and what each pass must hold.

A sought token that reads a value which is neither given nor noise waits for it: what is handed
over, what an autoregressive head has to write first, what another objective generates.  Segments of
one objective that read each other's noise are generated together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from fractions import Fraction

from wmdsl.check.codecs import TIME
from wmdsl.check.model import Condition, Model, Segment, TokenGroup
from wmdsl.check.queries import FITTING, NOISED
from wmdsl.plan.asked import Asked
from wmdsl.plan.casting import Cast, cast
from wmdsl.plan.flow import Flow, sliced
from wmdsl.plan.layouts import arranged
from wmdsl.plan.nodes import Generation, Pass, Placed, Space, Walk
from wmdsl.plan.reach import Node, aligned, feature, hidden, predicted, segment
from wmdsl.plan.refusals import (
    generated_in_a_circle,
    never_generated,
    read_but_not_given,
    steps_differ,
    stopped_but_read,
    without_a_path,
)
from wmdsl.plan.roles import noise_hides
from wmdsl.plan.spaces import kept, token_sources
from wmdsl.plan.walks import steps_of, told_apart, walks_of
from wmdsl.record import record

SAMPLERS = {
    "flow": "euler",
    "diffusion": "ddim",
    "edm": "euler",
    "regression": "one_pass",
    "autoregressive": "next_token",
    "masked": "rounds",
    "align": "one_pass",
    "contrastive": "one_pass",
    "extern": "call",
}
ONCE = frozenset(name for name, sampler in SAMPLERS.items() if sampler in ("one_pass", "call"))


@record
class Step:
    """One generation, with what became of the token groups of its pass."""

    generation: Generation
    cast: Cast


def chain_of(flow: Flow, asked: Asked) -> tuple[Step, ...]:
    """The steps that answer a question; raises Unanswerable with the reason and the line."""
    for wanted in asked.sought:
        _check_generated(flow, asked, wanted)
    known = _with_slices(flow, {given.reference for given in asked.given})
    left: set[str] = set()
    steps: list[Step] = []
    for stage in asked.stages:
        for targets, until in _order(flow, asked, [part.reference for part in stage], known):
            _check_left(flow, asked, targets, known, left)
            steps.append(_step(flow, asked, targets, frozenset(known), until))
            left |= steps[-1].generation.left
            if not until:
                known = _with_slices(flow, known | set(targets))
    _check_givens_are_read(flow, asked)
    return tuple(steps)


def _with_slices(flow: Flow, references: set[str]) -> set[str]:
    """Who knows a segment knows its parts."""
    parts = {part for part in sliced(flow.model) if part.partition("[")[0] in references}
    return references | parts


def _check_generated(flow: Flow, asked: Asked, wanted: Segment) -> None:
    if wanted.reference in (*flow.generates, *flow.externs):
        return
    if not _aligns(flow, wanted.reference):
        raise never_generated(flow.model, asked, wanted)


def _check_givens_are_read(flow: Flow, asked: Asked) -> None:
    """A future that is given must make a difference; else the question is another one."""
    targets = _targets(flow, [wanted.reference for wanted in asked.sought])
    closure = flow.deployed().before(targets)
    for given in asked.given:
        if not given.observed and segment(given.reference) not in closure:
            raise without_a_path(flow, asked, given)


def _aligns(flow: Flow, reference: str) -> list[str]:
    """Names of the aligns whose target is the segment."""
    aligns = flow.model.aligns.values()
    return [align.name for align in aligns if align.target.reference == reference]


def _targets(flow: Flow, references: Iterable[str]) -> list[Node]:
    """The nodes whose states become the segments, or their features."""
    nodes: list[Node] = []
    for reference in references:
        if reference in (*flow.generates, *flow.externs):
            nodes.append(predicted(reference))
        else:
            nodes += map(aligned, _aligns(flow, reference))
    return nodes


def _objective(flow: Flow, reference: str) -> str:
    generate = flow.generates.get(reference)
    if generate is None:
        return "extern" if reference in flow.externs else "align"
    return generate.objective


# order


def _order(
    flow: Flow, asked: Asked, sought: Sequence[str], known: Set[str]
) -> Iterator[tuple[tuple[str, ...], Fraction]]:
    """Segments generated together, in order, each time with the noise level at which to stop."""
    depths: dict[str, int] = {}
    until: dict[str, Fraction] = {}

    def visit(reference: str, trail: tuple[str, ...]) -> int:
        if reference in trail:
            raise generated_in_a_circle(flow, (*trail[trail.index(reference) :], reference))
        if reference not in depths:
            first = _needed_first(flow, asked, reference, known)
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
        key = (depth, _objective(flow, reference), until[reference])
        together.setdefault(key, []).append(reference)
    for key in sorted(together):
        yield tuple(together[key]), key[2]


def _needed_first(
    flow: Flow, asked: Asked, reference: str, known: Set[str]
) -> Mapping[str, Fraction]:
    """Segments whose value `reference` reads, with the noise level at which it reads them."""
    objective = _objective(flow, reference)
    if objective == "extern":
        taken = (part.reference for part in flow.externs[reference].takes)
        return {part: Fraction(0) for part in taken if _unmade(flow, asked, reference, part, known)}
    needed: dict[str, Fraction] = {}
    for space, placed in _live(flow, _needed_for(flow, asked, [reference], known)):
        other = placed.group.segment.reference if placed.group.segment else ""
        if other in known or other not in flow.generates or other == reference:
            continue
        level = _read_level(flow, space, placed, objective)
        if level is not None:
            needed[other] = min(level, needed.get(other, level))
    return needed


def _unmade(flow: Flow, asked: Asked, reference: str, taken: str, known: Set[str]) -> bool:
    """Whether what an extern takes must be made first; it is made, or given."""
    if taken not in (*known, *flow.generates, *flow.externs):
        raise read_but_not_given(asked, taken, flow.externs[reference].span)
    return taken not in known


def _read_level(flow: Flow, space: Space, placed: Placed, objective: str) -> Fraction | None:
    """The noise level at which a live group reads its segment's value; None if it needs none."""
    role = flow.roles[placed.key]
    if space.time is not None and role == "noisy":
        return None if noise_hides(space.time) else space.time
    if role in ("handed", "clean"):
        return Fraction(0)
    if role in ("noisy", "masked") and _objective(flow, placed.group.name) != objective:
        return Fraction(0)
    return None


# one pass


def _step(
    flow: Flow, asked: Asked, targets: tuple[str, ...], known: frozenset[str], until: Fraction
) -> Step:
    closure = _needed_for(flow, asked, targets, known)
    _check_sources(flow, asked, known, closure)
    made = cast(flow, asked, targets, known, _live(flow, closure))
    spaces = arranged(flow.model, tuple(live_spaces(flow, closure)), targets)
    evaluation = Pass("+".join(targets), spaces, made.roles)
    for deleted in _deleted_but_told(flow, evaluation):
        made.call_noise(flow, deleted, targets)
    objective = _objective(flow, targets[0])
    varying = (*targets, *made.beside)
    steps = _step_count(flow, asked, targets, varying)
    walks = walks_of(flow, asked, targets, made.beside, Walk(steps, until))
    made.concerns |= dict.fromkeys(told_apart(flow, walks))
    generation = Generation(
        segments=targets,
        joint=tuple(made.beside),
        generates=_losses(flow, targets),
        objective=objective,
        sampler=_sampler(asked, objective),
        steps=steps,
        evaluation=evaluation,
        until=until,
        constant=_constant(flow, evaluation, varying, closure) if steps > 1 else (),
        walks=walks,
    )
    return Step(generation, made)


def _sampler(asked: Asked, objective: str) -> str:
    """The one that the question names, where it fits what is generated."""
    fits = asked.sampler in FITTING.get(objective, ())
    return asked.sampler if asked.sampler and fits else SAMPLERS[objective]


def _check_sources(flow: Flow, asked: Asked, known: Set[str], closure: frozenset[Node]) -> None:
    """What a coupling reads without being generated must be given."""
    for source in token_sources(flow.model):
        reference = source.segment.reference if source.segment else ""
        needed = reference and feature(source.codec or "", reference) in closure
        if needed and reference not in known and reference not in flow.generates:
            raise read_but_not_given(asked, reference, source.span)


def _needed_for(
    flow: Flow, asked: Asked, targets: Sequence[str], known: Set[str]
) -> frozenset[Node]:
    """Everything that the targets need, and with it what segments generated beside them need."""
    generated = tuple(targets)
    while True:
        closure = flow.graph.before(_targets(flow, generated))
        beside = _beside(flow, asked, targets[0], known, closure)
        if beside <= set(generated):
            return closure
        generated = tuple(dict.fromkeys((*generated, *sorted(beside))))


def _beside(
    flow: Flow, asked: Asked, target: str, known: Set[str], closure: frozenset[Node]
) -> set[str]:
    """Segments that are denoised together with a target, because it reads their noise."""
    pinned = {segment.reference for segment in asked.pinned}
    return {
        placed.group.name
        for space, placed in _live(flow, closure)
        if space.time is None
        and flow.roles[placed.key] in ("noisy", "masked")
        and placed.group.name not in known | pinned
        and _objective(flow, placed.group.name) == _objective(flow, target)
    }


def _live(flow: Flow, closure: frozenset[Node]) -> Iterator[tuple[Space, Placed]]:
    """Groups whose tokens matter, in order of spaces and tokens."""
    for space in flow.spaces:
        for placed in space.groups:
            if hidden(placed.key, 0, space.time) in closure:
                yield space, placed


def live_spaces(flow: Flow, closure: frozenset[Node]) -> Iterator[Space]:
    """The spaces with their live groups, up to the last block that matters."""
    for space in flow.spaces:
        names = frozenset(placed.key for placed in space.groups)
        states = [
            node
            for node in closure
            if node.kind == "hidden" and node.time == space.time and node.group in names
        ]
        live = {node.group for node in states if node.layer == 0}
        if live:
            deepest = max(node.layer for node in states)
            yield kept(space, lambda placed, live=live: placed.key in live, deepest)


def _losses(flow: Flow, targets: Iterable[str]) -> tuple[str, ...]:
    """Names of the generates, or aligns, that predict the segments."""
    names: dict[str, None] = {}
    for reference in targets:
        generate = flow.generates.get(reference)
        extern = flow.externs.get(reference)
        made = generate or extern
        names |= dict.fromkeys([made.name] if made else _aligns(flow, reference))
    return tuple(names)


def _check_left(
    flow: Flow, asked: Asked, targets: tuple[str, ...], known: Set[str], left: Set[str]
) -> None:
    """What was left noisy must not be read as data."""
    closure = _needed_for(flow, asked, targets, known) if left else frozenset()
    read = {
        placed.group.name for _, placed in _live(flow, closure) if placed.group.name in left & known
    }
    for source in token_sources(flow.model):
        reference = source.segment.reference if source.segment else ""
        if reference in left and feature(source.codec or "", reference) in closure:
            read.add(reference)
    for reference in sorted(read):
        raise stopped_but_read(asked, reference, targets)


def _step_count(
    flow: Flow, asked: Asked, targets: tuple[str, ...], varying: tuple[str, ...]
) -> int:
    """Steps of the whole pass: as many as the segment with the most of them has."""
    objective = _objective(flow, targets[0])
    if objective in ONCE:
        return 1
    if objective == "autoregressive":
        return sum(_tokens(flow, target) for target in targets)
    if objective in NOISED:
        return max(steps_of(asked, varying, targets).values())
    counts = set(steps_of(asked, targets, targets).values())
    if len(counts) > 1:
        raise steps_differ(asked, targets)
    return counts.pop()


def _tokens(flow: Flow, reference: str) -> int:
    groups = flow.generates[reference].groups
    return sum(
        flow.model.trunks[trunk].group(name).count for trunk, name in groups if name == reference
    )


def _constant(
    flow: Flow, evaluation: Pass, varying: Iterable[str], closure: frozenset[Node]
) -> tuple[tuple[str, str], ...]:
    """Groups whose states stay the same from step to step of one generation."""
    moving = frozenset(varying)
    starts = [
        hidden(placed.key, 0)
        for space in evaluation.spaces
        if space.time is None
        for placed in space.groups
        if placed.group.name in moving
        or _told_all(flow, space)
        or moving & set(_times_told(flow.model, placed.group))
    ]
    changed = flow.graph.after(starts) & closure
    touched = {(node.group, node.time) for node in changed if node.kind == "hidden"}
    return tuple(
        placed.key
        for space in evaluation.spaces
        for placed in space.groups
        if (placed.key, space.time) not in touched
    )


def _times_told(model: Model, group: TokenGroup) -> Iterator[str]:
    """Segments of whose noise level conditions and crosses tell a group."""
    for coupling in (*model.crosses.values(), *model.conditions.values()):
        targets = (coupling.trunk,) if isinstance(coupling, Condition) else coupling.targets
        if group.trunk in targets:
            told = (source for source in coupling.sources if source.codec == TIME)
            yield from (source.segment.reference for source in told)


def _told_all(flow: Flow, space: Space) -> bool:
    """Whether every token is told the times of what is generated."""
    return any(flow.model.trunks[trunk].told == "all" for trunk in space.trunks)


def _deleted_but_told(flow: Flow, evaluation: Pass) -> Iterator[str]:
    """Deleted segments of whose noise level the kept tokens are told: they count as pure noise."""
    for space in evaluation.spaces:
        whole = next(found for found in flow.spaces if found.name == space.name)
        live = {placed.key for placed in space.groups}
        for placed in whole.groups if _told_all(flow, space) else ():
            if placed.key not in live and flow.roles[placed.key] == "noisy":
                yield placed.group.name
    run = {placed.group.name for space in evaluation.spaces for placed in space.groups}
    for space in evaluation.spaces:
        for placed in space.groups:
            yield from set(_times_told(flow.model, placed.group)) - run
