"""What training and the declared queries do differently, and what a reader should know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wmdsl.check.model import CallValue, Model, Query
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import QueryPlan

VERBS = {
    "deleted_exactly": "leaves out the tokens of {what}: no kept token sees them",
    "head_skipped": "does not run the head of {what}",
    "pinned_at_noise": "holds {what} at pure noise",
    "output_ignored": "generates {what} beside what it seeks and ignores it",
    "not_optional": "generates {what} first, because what it seeks reads it",
}


def differences(flow: Flow, queries: Mapping[str, QueryPlan]) -> tuple[str, ...]:
    """Lines, each about one coupling, one query or one noise level."""
    asked = [query for query in queries.values() if query.chain]
    lines = [*_couplings(flow), *_dropped(flow, asked), *_walks(flow, asked), *_steps(flow, asked)]
    return tuple(dict.fromkeys(lines))


def _couplings(flow: Flow) -> Iterator[str]:
    for hand in flow.model.hands.values():
        source = "the true" if hand.training == "truth" else "the predicted"
        yield (
            f"{hand.trunk} reads {source} {hand.segment.reference} in training; in a query a "
            "prediction, or what is given"
        )
    for align in flow.model.aligns.values():
        yield f"align {align.name} and its teacher run in training only"


def _dropped(flow: Flow, asked: Sequence[QueryPlan]) -> Iterator[str]:
    for query in asked:
        for entry in query.dropped:
            if entry.what in flow.generates:
                yield f"{query.name} {VERBS[entry.how].format(what=entry.what)}"


def _walks(flow: Flow, asked: Sequence[QueryPlan]) -> Iterator[str]:
    """Training draws noise levels; queries walk through them."""
    for reference, generate in flow.generates.items():
        if generate.law is None:
            continue
        walks = [
            f"{query.name} in {step.walk(reference).steps} steps"
            + (f" to {float(step.walk(reference).stop):g}" * bool(step.walk(reference).stop))
            for query in asked
            for step in query.chain
            if reference in step.segments
        ]
        if walks:
            shift = f" with shift {float(generate.shift):g}" if generate.shift != 1 else ""
            yield (
                f"{reference} draws its noise level from {law_text(generate.law)}{shift} in "
                f"training; it is walked by {', '.join(walks)}"
            )


def _steps(flow: Flow, asked: Sequence[QueryPlan]) -> Iterator[str]:
    """Levels that are independent in training and equal in a query."""
    together: dict[tuple[str, ...], list[str]] = {}
    for query in asked:
        for step in query.chain:
            walked = tuple(r for r in flow.generates if r in (*step.segments, *step.joint))
            if len(walked) > 1 and step.steps > 1 and not (step.walks or _tied(flow, walked)):
                together.setdefault(walked, []).append(query.name)
    for walked, names in together.items():
        yield (
            f"{' and '.join(walked)} have noise levels of their own in training and the same ones "
            f"in {', '.join(names)}"
        )


def _tied(flow: Flow, references: Sequence[str]) -> bool:
    generates = {flow.generates[reference].name for reference in references}
    return len(generates) == 1 and flow.generates[references[0]].times == "shared"


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
        if query.attributes["ensemble"] is not None:
            found.append(
                f"{query.name} averages the chunks that speak of a step; each weighs "
                f"exp(-{float(query.attributes['ensemble']):g}) times the one asked for before it"
            )
        if query.attributes["cache"] != "none":
            found.append(
                f"{query.name} may keep {query.attributes['cache']} states between calls; "
                "here each call computes them again, with the same answer"
            )
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
