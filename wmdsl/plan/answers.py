"""The answer to a question: how exact, what lives, what is dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from wmdsl.check.queries import left_out
from wmdsl.plan.asked import Asked
from wmdsl.plan.chain import Step, chain_of
from wmdsl.plan.density import density_of
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import Dropped, Pass, QueryPlan
from wmdsl.plan.refusals import Unanswerable, at
from wmdsl.plan.spaces import row_of


def answer(flow: Flow, asked: Asked) -> QueryPlan:
    """The plan of a question, without its costs; where it has no answer, `because` and `blamed` say
    why."""
    if asked.missing:
        return _refused(asked, Unanswerable(asked.missing, asked.span))
    try:
        steps = chain_of(flow, asked)
    except Unanswerable as reason:
        return _refused(asked, reason)
    return _answered(flow, asked, steps)


def _refused(asked: Asked, reason: Unanswerable) -> QueryPlan:
    return QueryPlan(
        name=asked.name,
        given=tuple(segment.reference for segment in asked.given),
        sought=tuple(segment.reference for segment in asked.sought),
        answerable="no",
        because=reason.because,
        live=(),
        dropped=(),
        steps={},
        chain=(),
        declared=asked.declared,
        blamed=reason.span,
        help=reason.help,
    )


def _answered(flow: Flow, asked: Asked, steps: tuple[Step, ...]) -> QueryPlan:
    concerns = [concern for step in steps for concern in step.cast.concerns]
    guidance = _guidance(flow, asked)
    concerns += guidance
    dropped = tuple(_dropped(flow, asked, steps))
    passes = [step.generation.evaluation for step in steps]
    return QueryPlan(
        name=asked.name,
        given=tuple(segment.reference for segment in asked.given),
        sought=tuple(segment.reference for segment in asked.sought),
        answerable="approximate" if concerns else "exact",
        because="; ".join(concerns or _reasons(flow, asked, dropped)),
        live=tuple(_live_names(passes)),
        dropped=dropped,
        steps=_steps(steps),
        chain=tuple(step.generation for step in steps),
        declared=asked.declared,
        passes=2 if guidance else 1,
        density=density_of(flow, asked, tuple(step.generation for step in steps), bool(guidance)),
    )


def _guidance(flow: Flow, asked: Asked) -> list[str]:
    """That guidance moves the answer away from one without some givens."""
    query = flow.model.queries.get(asked.name) if asked.declared else None
    if query is None or not query.guidance:
        return []
    streams = flow.model.streams
    shares = {
        name: float(streams[name].attributes.get("dropout") or 0)
        for name in left_out(streams, query.given)
    }
    without = " and ".join(
        f"{name} left out ({f'in {share:.0%}' if share else 'in none'} of the training samples)"
        for name, share in shares.items()
    )
    scales = ", ".join(f"{name} {float(scale):g}" for name, scale in query.guidance.items())
    return [f"guidance ({scales}) contrasts with {without}"]


def _steps(steps: Iterable[Step]) -> Mapping[str, int]:
    return {
        reference.partition(".")[0]: step.generation.walk(reference).steps
        for step in steps
        for reference in (*step.generation.segments, *step.generation.joint)
    }


def _live_names(passes: Iterable[Pass]) -> Iterator[str]:
    names = (
        placed.group.name
        for evaluation in passes
        for space in evaluation.spaces
        for placed in space.groups
    )
    return iter(dict.fromkeys(names))


def _dropped(flow: Flow, asked: Asked, steps: tuple[Step, ...]) -> Iterator[Dropped]:
    """What the question leaves out, in token order, then heads and blocks that nobody asks."""
    passes = [step.generation.evaluation for step in steps]
    live = set(_live_names(passes))
    sought = {segment.reference for segment in asked.sought}
    known = sought | {segment.reference for segment in asked.given}
    names = dict.fromkeys(placed.group.name for space in flow.spaces for placed in space.groups)
    for name in names:
        how = _fate(name, name in live, steps)
        if how == "deleted_exactly" or name not in known:
            if how:
                yield Dropped(name, how)
    yield from _skipped_aligns(flow, steps)
    yield from _skipped_layers(flow, passes)


def _fate(name: str, live: bool, steps: tuple[Step, ...]) -> str | None:
    """What became of a segment's tokens; None where they live as data."""
    if not live:
        return "deleted_exactly"
    if any(name in step.generation.segments for step in steps):
        return "not_optional"
    if any(name in step.cast.beside for step in steps):
        return "output_ignored"
    if any(name in step.cast.pinned for step in steps):
        return "pinned_at_noise"
    return "head_skipped" if any(name in step.cast.unread for step in steps) else None


def _skipped_aligns(flow: Flow, steps: tuple[Step, ...]) -> Iterator[Dropped]:
    asked = {name for step in steps for name in step.generation.generates}
    for name in flow.model.aligns:
        if name not in asked:
            yield Dropped(name, "head_skipped")


def _skipped_layers(flow: Flow, passes: Iterable[Pass]) -> Iterator[Dropped]:
    deepest: dict[str, int] = {}
    for space in (space for evaluation in passes for space in evaluation.spaces):
        for trunk in space.trunks:
            deepest[trunk] = max(space.layers, deepest.get(trunk, 0))
    for trunk, layers in deepest.items():
        last = flow.model.trunks[trunk].layers - 1
        if layers <= last:
            what = f"{trunk} layer {last}" if layers == last else f"{trunk} layers {layers}..{last}"
            yield Dropped(what, "head_skipped")


def _reasons(flow: Flow, asked: Asked, dropped: Iterable[Dropped]) -> list[str]:
    """Why the answer is exact, with the line behind every future that is left out."""
    said = []
    for entry in dropped:
        segment = flow.generates.get(entry.what)
        if segment is None:
            continue
        if entry.how == "deleted_exactly":
            said.append(f"{entry.what} is deleted: no kept token sees it")
        elif entry.how == "output_ignored":
            said.append(f"{entry.what} is generated beside it, because {_reader(flow, entry.what)}")
        elif entry.how == "not_optional":
            said.append(f"{entry.what} is generated first, because {_reader(flow, entry.what)}")
        elif entry.how == "head_skipped":
            said.append(f"{entry.what} stays as placeholders whose head is not run")
        elif entry.how == "pinned_at_noise":
            said.append(f"{entry.what} is held at pure noise, as training has shown it")
    return said or ["everything that reaches what is sought is given"]


def _reader(flow: Flow, reference: str) -> str:
    """`action sees corner.future (mot.wm:15)`: a predicting reader of the tokens, and its line."""
    for space in flow.spaces:
        for query, key in flow.sights[space.name]:
            if key.group.name == reference and query.group.name in flow.generates:
                span = row_of(flow.model, space, query.key)
                return f"{query.group.name} sees {reference} ({at(span)})"
    return "what is sought reads it"
