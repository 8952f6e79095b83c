"""What training and the declared queries do differently, and what a reader should know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wmdsl.check.model import CallValue, Model, Query
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import Generation, QueryPlan

VERBS = {
    "deleted_exactly": "leaves out the tokens of {what}: no kept token sees them",
    "head_skipped": "does not run the head of {what}",
    "pinned_at_noise": "holds {what} at pure noise",
    "output_ignored": "generates {what} beside what it seeks and ignores it",
    "not_optional": "generates {what} first, because what it seeks reads it",
}


def differences(flow: Flow, queries: Mapping[str, QueryPlan]) -> tuple[str, ...]:
    """Lines, each about one query or coupling."""
    return tuple(dict.fromkeys(_differences(flow, queries)))


def _differences(flow: Flow, queries: Mapping[str, QueryPlan]) -> Iterator[str]:
    for hand in flow.model.hands.values():
        source = "the true" if hand.training == "truth" else "the predicted"
        yield (
            f"{hand.trunk} reads {source} {hand.segment.reference} in training; in a query a "
            "prediction, or what is given"
        )
    for align in flow.model.aligns.values():
        yield f"align {align.name} and its teacher run in training only"
    for query in queries.values():
        for entry in query.dropped:
            if entry.what in flow.generates:
                yield f"{query.name} {VERBS[entry.how].format(what=entry.what)}"
        for step in query.chain:
            yield from _noise(flow, query, step)


def _noise(flow: Flow, query: QueryPlan, step: Generation) -> Iterator[str]:
    """Training draws noise levels; a query walks through them, all streams in step."""
    for reference in step.segments:
        generate = flow.generates.get(reference)
        if generate is None or generate.law is None:
            continue
        shift = f" with shift {generate.shift}" if generate.shift != 1 else ""
        goal = f"to {float(step.until):g}" if step.until else "to 0"
        yield (
            f"{reference} has the noise law {law_text(generate.law)}{shift} in training; "
            f"{query.name} takes {step.steps} steps from 1 {goal}"
        )
    together = (*step.segments, *step.joint)
    if len(together) > 1 and step.steps > 1:
        times = {flow.generates[reference].times for reference in together}
        names = {flow.generates[reference].name for reference in together}
        if len(names) > 1 or times != {"shared"}:
            yield (
                f"{' and '.join(together)} have noise levels of their own in training; "
                f"{query.name} walks both in step"
            )


def law_text(law: CallValue) -> str:
    """`beta(1.5, 1)`."""
    if not law.arguments:
        return law.name
    return f"{law.name}({', '.join(_number(part) for part in law.arguments)})"


def _number(part: object) -> str:
    return law_text(part) if isinstance(part, CallValue) else f"{float(part):g}"


def notes(model: Model, queries: Mapping[str, QueryPlan]) -> tuple[str, ...]:
    """Horizons in seconds, executed shares of chunks, constructs without a runtime."""
    found = [*_horizons(model)]
    for query in model.queries.values():
        if query.execute is not None:
            found.append(_executed(model, query))
    found += [f"{entry.what} has no runtime yet ({entry.code})" for entry in model.unrunnable]
    return tuple(found)


def _horizons(model: Model) -> Iterator[str]:
    for generate in model.generates.values():
        for segment in generate.segments:
            rate = model.streams[segment.stream].rate_hz
            if rate and segment.offsets:
                unit = "steps" if segment.offsets[0] == 0 else "frames"
                reach = segment.offsets[-1] + (segment.offsets[0] == 0)
                yield (
                    f"{segment.reference} reaches {float(reach / rate):g} s ahead: "
                    f"{segment.length} {unit} at {float(rate):g} Hz"
                )


def _executed(model: Model, query: Query) -> str:
    action = next(
        segment
        for segment in query.all_sought
        if model.streams[segment.stream].modality == "action"
    )
    rate = model.streams[action.stream].rate_hz
    again = f", {float(rate / query.execute):g} times a second" if rate else ""
    return f"{query.name} executes {query.execute} of {action.length} steps, then asks again{again}"
