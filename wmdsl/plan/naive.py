"""The program that nobody optimised: every token of every space, anew in every step.

It answers what the emitted program answers, from the same weights and the same noise.  Tests and
measurements compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import replace

from wmdsl.plan.flow import Flow
from wmdsl.plan.layouts import arranged
from wmdsl.plan.nodes import Generation, Placed, Plan, QueryPlan, Space
from wmdsl.plan.spaces import kept

GroupName = tuple[str, str]
JOINT = {"flow": "noisy", "diffusion": "noisy", "edm": "noisy"}
DATALESS = ("learned", "placeholder")


def naive(plan: Plan, hoisted: bool = False) -> Plan:
    """The plan with nothing deleted or kept from step to step; `hoisted` encodes once."""
    flow = Flow.of(plan.model)

    def undone(query: QueryPlan) -> QueryPlan:
        chain = naive_chain(flow, query.given, query.chain)
        return replace(query, chain=tuple(replace(step, hoisted=hoisted) for step in chain))

    return replace(
        plan,
        queries={name: undone(query) for name, query in plan.queries.items()},
        canonical_queries={n: undone(query) for n, query in plan.canonical_queries.items()},
    )


def naive_chain(
    flow: Flow, given: Iterable[str], chain: Iterable[Generation]
) -> tuple[Generation, ...]:
    """The generations, each over all tokens of its spaces whose values there are."""
    known, steps, chain = set(given), [], tuple(chain)
    for place, step in enumerate(chain):
        later = {segment for after in chain[place + 1 :] for segment in after.segments}
        steps.append(_undone(flow, step, known, later))
        known |= set(step.segments) if not step.until else set()
    return tuple(steps)


def _undone(flow: Flow, step: Generation, known: Set[str], later: Set[str]) -> Generation:
    """The step over everything; what is generated `later` stays out, or its noise would differ."""
    roles = dict(step.evaluation.roles)
    whole = tuple(
        _whole(flow, step, space, known, later, roles) for space in step.evaluation.spaces
    )
    spaces = arranged(flow.model, whole, step.segments)
    beside = {
        placed.group.name: None
        for space in spaces
        for placed in space.groups
        if roles[placed.key] == JOINT.get(step.objective) and space.time is None
    }
    joint = [name for name in beside if name not in (*step.segments, *step.joint)]
    return replace(
        step,
        joint=(*step.joint, *joint),
        evaluation=replace(step.evaluation, spaces=spaces, roles=roles),
        constant=(),
        hoisted=False,
    )


def _whole(
    flow: Flow,
    step: Generation,
    space: Space,
    known: Set[str],
    later: Set[str],
    roles: dict[GroupName, str],
) -> Space:
    """The space with everything that can stand in it; adds the roles of what was deleted."""
    found = next(s for s in flow.spaces if (s.name, s.time) == (space.name, space.time))
    live = {placed.key for placed in space.groups}
    added = {
        key: role
        for key, role in _added(flow, step, found, known, live)
        if key[1] not in later
    }
    roles |= added
    layers = found.layers if space.time is None else space.layers
    return kept(found, lambda placed: placed.key in live or placed.key in added, layers)


def _added(
    flow: Flow, step: Generation, space: Space, known: Set[str], live: Set[GroupName]
) -> Iterator[tuple[GroupName, str]]:
    for placed in space.groups if space.time is None else ():
        if placed.key not in live:
            role = _role(flow, step, placed, known)
            if role is not None:
                yield placed.key, role


def _role(flow: Flow, step: Generation, placed: Placed, known: Set[str]) -> str | None:
    """What a deleted group would be; None where there is nothing to put in its place."""
    role, reference = flow.roles[placed.key], placed.group.name
    if role in DATALESS:
        return role
    if role == "clean":
        return role if reference in known else None
    if role != "noisy":
        return None
    if reference in known:
        return "clean"
    generate = flow.generates.get(reference)
    return role if generate is not None and generate.objective == step.objective else None
