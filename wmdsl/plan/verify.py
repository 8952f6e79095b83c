"""The rules of a legal plan, as a table.

On in the tests and under WMDSL_VERIFY=1: a plan that breaks a rule is a mistake of the compiler,
not of the spec, and must never reach the emitter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wmdsl.plan.nodes import Pass, Plan, QueryPlan, Space
from wmdsl.plan.ranges import by_block, canonical, pairs, restricted

ROLES = frozenset(
    ("clean", "noisy", "pinned", "placeholder", "masked", "handed", "learned", "prefix")
)
ANSWERS = ("exact", "approximate", "no")
FATES = ("deleted_exactly", "head_skipped", "pinned_at_noise", "output_ignored", "not_optional")


class IllegalPlan(AssertionError):
    """A plan that breaks rules of this file; the message lists all breaches."""


def verify(plan: Plan) -> None:
    """Raise IllegalPlan where any rule is broken."""
    breaches = [f"{name}: {breach}" for name, rule in RULES.items() for breach in rule(plan)]
    if breaches:
        raise IllegalPlan("\n".join(breaches))


def _passes(plan: Plan) -> Iterator[tuple[str, Pass]]:
    yield "train", plan.train
    for query in _queries(plan):
        for step in query.chain:
            yield query.name, step.evaluation


def _spaces(plan: Plan) -> Iterator[tuple[str, Space]]:
    for name, evaluation in _passes(plan):
        for space in evaluation.spaces:
            yield f"{name}, {space.name}", space


def _queries(plan: Plan) -> Iterator[QueryPlan]:
    yield from plan.queries.values()
    yield from plan.canonical_queries.values()


def _laid_end_to_end(plan: Plan) -> Iterator[str]:
    for where, space in _spaces(plan):
        place = 0
        for placed in space.groups:
            if placed.start != place:
                yield f"{where}: {placed.group.name} starts at {placed.start}, not {place}"
            place = placed.end
        if place != space.tokens:
            yield f"{where}: {space.tokens} tokens, but groups end at {place}"


def _canonical_rows(plan: Plan) -> Iterator[str]:
    for where, space in _spaces(plan):
        if canonical(by_block(space.ranges).items()) != space.ranges:
            yield f"{where}: rows are not canonical"
        if any(max(row) > space.tokens or min(row) < 0 for row in space.ranges):
            yield f"{where}: a row leaves the sequence"


def _one_relation(plan: Plan) -> Iterator[str]:
    """Masks of queries are the training mask among kept tokens, and nothing else."""
    trained = {(space.name, space.time): space for space in plan.train.spaces}
    for where, space in _spaces(plan):
        whole = trained.get((space.name, space.time))
        if whole is None:
            yield f"{where}: training never runs this space"
            continue
        at = {placed.key: placed for placed in whole.groups}
        starts = [at[placed.key].start + placed.offset for placed in space.groups]
        counts = [placed.group.count for placed in space.groups]
        kept = tuple((low, low + count) for low, count in zip(starts, counts, strict=True))
        if restricted(whole.ranges, kept) != space.ranges:
            yield f"{where}: rows differ from those of training"


def _roles_given(plan: Plan) -> Iterator[str]:
    for name, evaluation in _passes(plan):
        for space in evaluation.spaces:
            for placed in space.groups:
                role = evaluation.roles.get(placed.key)
                if role not in ROLES:
                    yield f"{name}: {placed.key} has role {role}"


def _layers_exist(plan: Plan) -> Iterator[str]:
    for where, space in _spaces(plan):
        for trunk in space.trunks:
            if not 0 <= space.layers <= plan.model.trunks[trunk].layers:
                yield f"{where}: {space.layers} layers of {trunk}"


def _answers_said(plan: Plan) -> Iterator[str]:
    for query in _queries(plan):
        if query.answerable not in ANSWERS or not query.because:
            yield f"{query.name}: {query.answerable!r} because {query.because!r}"
        if (query.answerable == "no") != (not query.chain):
            yield f"{query.name}: {query.answerable} with {len(query.chain)} generations"


def _sought_generated(plan: Plan) -> Iterator[str]:
    for query in _queries(plan):
        made = {segment for step in query.chain for segment in step.segments}
        if query.chain and not set(query.sought) <= made:
            yield f"{query.name}: {set(query.sought) - made} is sought but not generated"
        if set(query.given) & made:
            yield f"{query.name}: {set(query.given) & made} is given and generated"


def _drops_true(plan: Plan) -> Iterator[str]:
    for query in _queries(plan):
        live = set(query.live)
        for entry in query.dropped:
            if entry.how not in FATES:
                yield f"{query.name}: {entry.what} is dropped as {entry.how}"
            if entry.how == "deleted_exactly" and entry.what in live:
                yield f"{query.name}: {entry.what} is deleted but live"


def _masks_counted(plan: Plan) -> Iterator[str]:
    for name, mask in plan.masks.items():
        if abs(mask.density * mask.tokens**2 - pairs(mask.ranges)) > 0.5:
            yield f"{name}: density {mask.density} of {mask.tokens} tokens"


def _constant_live(plan: Plan) -> Iterator[str]:
    for query in _queries(plan):
        for step in query.chain:
            groups = {p.key for space in step.evaluation.spaces for p in space.groups}
            if not set(step.constant) <= groups:
                yield f"{query.name}: {set(step.constant) - groups} is constant but not live"


RULES: dict[str, Callable[[Plan], Iterator[str]]] = {
    "groups are laid end to end": _laid_end_to_end,
    "rows are canonical and in range": _canonical_rows,
    "train and inference use one relation": _one_relation,
    "every live group has a role": _roles_given,
    "layers exist": _layers_exist,
    "every answer has a reason": _answers_said,
    "what is sought is generated": _sought_generated,
    "what is dropped is dropped": _drops_true,
    "densities count pairs": _masks_counted,
    "constant groups are live": _constant_live,
}
