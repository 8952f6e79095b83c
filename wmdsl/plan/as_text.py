"""The plan as a report for a terminal, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from wmdsl.plan.as_json import role_of, token_count
from wmdsl.plan.draw.mask import mask_text
from wmdsl.plan.nodes import Edge, Generation, Paradigm, Plan, QueryPlan, StagePlan, Walk
from wmdsl.plan.quantities import count, flops, hertz, memory, percent
from wmdsl.plan.refusals import at

WIDTH = 100
INDENT = "  "
SAVED = {
    "deleted": "deleted",
    "hoisted": "encoded once",
    "cached": "keys and values once",
}


def to_text(plan: Plan, query: str | None = None) -> str:
    """The whole report, or what concerns one query; KeyError where there is no such query."""
    if query is not None:
        asked = {**plan.canonical_queries, **plan.queries}[query]
        return _joined([_query_section(plan, asked)])
    return _joined([
        _head(plan), _streams(plan), _trunks(plan), _edges(plan), _mask(plan),
        _queries(plan.queries.values()), _canonical(plan.canonical_queries.values()),
        _weights(plan), _stages(plan.stages),
        _lines("training and queries differ", plan.differences), _lines("notes", plan.notes),
    ])  # fmt: skip


def _joined(sections: Iterable[Iterable[str]]) -> str:
    texts = ("\n".join(section) for section in sections)
    return "\n\n".join(text for text in texts if text) + "\n"


def _head(plan: Plan) -> Iterator[str]:
    model = plan.model
    yield f"{model.name}: {model.title}" if model.title else model.name
    yield f"edition {model.edition}, spec {model.sha256[:16]}"
    yield ""
    yield from _fields([
        ("paradigm", _paradigm(plan.paradigm)),
        ("because", "; ".join(plan.paradigm.because)),
        ("density", plan.factorisation or "nothing is predicted"),
        ("weights", _weights_line(plan)),
        ("training", f"{flops(plan.train_flops)} forward for one sample"),
    ])  # fmt: skip


def _paradigm(paradigm: Paradigm) -> str:
    mechanisms = " and ".join(paradigm.mechanism)
    coupling = f", {paradigm.level} by {mechanisms}" if mechanisms else ""
    where = "" if paradigm.where == "none" else f": {paradigm.where}, {paradigm.explicitness}"
    return (
        f"{paradigm.id} (rule {paradigm.rule}){where}{coupling}; "
        f"visual branch at inference: {paradigm.visual_at_inference}"
    )


def _weights_line(plan: Plan) -> str:
    weights = plan.parameters
    return f"{count(weights.total)}, {count(weights.trainable)} trainable"


def _fields(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    wide = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield from _wrapped(f"{name:<{wide}}  ", text)


def _wrapped(first: str, text: str) -> list[str]:
    rest = " " * len(first)
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest) or [first]


def _table(rows: Sequence[Sequence[str]], indent: str = INDENT) -> Iterator[str]:
    """Columns as wide as their longest cell."""
    widths = (
        [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    )
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield (indent + "  ".join(cells)).rstrip()


def _streams(plan: Plan) -> Iterator[str]:
    rows = []
    for stream in plan.model.streams.values():
        sizes = ", ".join(map(str, stream.shape))
        rate = hertz(float(stream.rate_hz)) if stream.rate_hz else ""
        for segment in stream.segments:
            tokens = token_count(plan, segment)
            samples = f"{segment.length} x " if segment.offsets else ""
            rows.append(
                (segment.reference, f"{samples}{stream.modality}[{sizes}]", rate, stream.level,
                 role_of(plan, segment), f"{tokens} token{'s' * (tokens != 1)}")
            )  # fmt: skip
    if rows:
        yield "streams"
        yield from _table(rows)


def _trunks(plan: Plan) -> Iterator[str]:
    for index, trunk in enumerate(plan.model.trunks.values()):
        if not index:
            yield "trunks"
        weights = count(plan.parameters.by_owner.get(f"trunk.{trunk.name}", 0))
        heads = f", {trunk.heads} x {trunk.head_dim} heads" if trunk.heads else ""
        heads += f" ({trunk.kv_heads} for keys)" if trunk.kv_heads != trunk.heads else ""
        frozen = ", frozen" if trunk.frozen else ""
        size = f"{trunk.kind}, {trunk.layers} layers, width {trunk.width}"
        yield f"{INDENT}{trunk.name}: {size}{heads}, {weights}{frozen}"
        tokens = ", ".join(f"{group.name} {group.count}" for group in trunk.groups)
        yield from _wrapped(f"{INDENT}{INDENT}", tokens)


def _edges(plan: Plan) -> Iterator[str]:
    rows = [
        (f"{INDENT}{edge.source} -> {edge.target}", _edge(edge))
        for edge in plan.edges
        if edge.mechanism != "concat"
    ]
    if rows:
        yield "couplings"
        yield from _fields(rows)


def _edge(edge: Edge) -> str:
    marks = [edge.mechanism, edge.level]
    marks += [f"blocks {_runs(edge.layers)}"] if edge.layers else []
    marks += ["no gradient"] if edge.stop_gradient else []
    marks += ["training only"] if edge.train_only else []
    return f"{', '.join(marks)} ({at(edge.span)})"


def _runs(numbers: Sequence[int]) -> str:
    """`0..3`, or the numbers one by one."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}..{numbers[-1]}"
    return ", ".join(map(str, numbers))


def _mask(plan: Plan) -> Iterator[str]:
    if plan.train.spaces:
        yield "attention in training (rows see columns)"
        yield from textwrap.indent(mask_text(plan.train.spaces), INDENT).splitlines()


def _queries(queries: Iterable[QueryPlan]) -> Iterator[str]:
    for index, query in enumerate(queries):
        if not index:
            yield "queries"
        yield from _query(query)


def _canonical(queries: Iterable[QueryPlan]) -> Iterator[str]:
    """Whether the four usual questions have answers, and why."""
    yield "canonical queries"
    for query in queries:
        yield from _wrapped(f"{INDENT}{query.name:<24}  {query.answerable:<11}  ", query.because)


def _query(query: QueryPlan) -> Iterator[str]:
    sought, given = ", ".join(query.sought) or "nothing", ", ".join(query.given)
    yield from _wrapped(f"{INDENT}{query.name}: ", f"{sought} | {given}" if given else sought)
    deep = INDENT * 2
    yield from _wrapped(f"{deep}{query.answerable}: ", query.because)
    if query.help:
        yield from _wrapped(f"{deep}help: ", query.help)
    for step in query.chain:
        yield from _wrapped(f"{deep}runs ", _generation(step))
    if query.chain:
        yield f"{deep}{query.tokens} tokens, {flops(query.flops)}, K and V {memory(query.kv_bytes)}"
        density = query.density
        yield from _wrapped(f"{deep}log-density: {density.answer}: ", density.because)
    if query.dropped:
        drops = ", ".join(f"{entry.what} ({entry.how})" for entry in query.dropped)
        yield from _wrapped(f"{deep}drops ", drops)


def _generation(step: Generation) -> str:
    many = "step" if step.steps == 1 else "steps"
    beside = f" with {', '.join(step.joint)}" if step.joint else ""
    until = f" down to noise {float(step.until):g}" if step.until else ""
    own = "".join(
        f"; {name} in {walk.steps}"
        + (f" down to noise {float(walk.stop):g}" if walk.stop != step.until else "")
        for name, walk in step.walks.items()
        if walk != Walk(step.steps, step.until)
    )
    names = ", ".join(step.segments)
    return f"{names}{beside}: {step.steps} {many} of {step.objective}{until}{own}"


def _query_section(plan: Plan, query: QueryPlan) -> Iterator[str]:
    """One query with its savings and its masks."""
    yield from (line.removeprefix(INDENT) for line in _query(query))
    yield from _savings(query)
    for step in query.chain:
        yield ""
        yield f"attention while {', '.join(step.segments)} is generated (rows see columns)"
        yield from textwrap.indent(mask_text(step.evaluation.spaces), INDENT).splitlines()
    if query.name in plan.masks:
        mask = plan.masks[query.name]
        yield ""
        yield (
            f"{percent(mask.density)} of {mask.tokens} x {mask.tokens} pairs, at most "
            f"{mask.max_ranges_per_row} key ranges in a row"
        )


def _savings(query: QueryPlan) -> Iterator[str]:
    """From everything in every step down to what is emitted."""
    if query.chain:
        yield ""
        yield f"{'everything in every step':<26}{flops(query.naive_flops):>12}"
        for saving in query.savings:
            first = f"{SAVED[saving.how]:<26}{'-' + flops(saving.flops):>12}"
            yield from _wrapped(f"{first}  ", ", ".join(saving.what))
        share = percent(query.flops / query.naive_flops) if query.naive_flops else ""
        yield f"{'emitted':<26}{flops(query.flops):>12}  {share}"


def _weights(plan: Plan) -> Iterator[str]:
    weights = plan.parameters
    if weights.by_owner:
        yield "weights"
        yield from _table([
            (owner, f"{number:>13,}", "frozen" if owner in weights.frozen_owners else "")
            for owner, number in weights.by_owner.items()
        ])  # fmt: skip


def _stages(stages: Sequence[StagePlan]) -> Iterator[str]:
    for index, stage in enumerate(stages):
        if not index:
            yield "stages of training"
        trained = ", ".join(stage.trained)
        told = [
            f"{', '.join(stage.losses)} train {trained} ({count(stage.weights)})",
            f"{stage.steps:,} steps" if stage.steps else "",
            f"rate {_numbers(stage.rates)}" if stage.rates else "",
            f"data {_numbers(stage.data)}" if stage.data else "",
        ]
        text = "; ".join(part for part in told if part)
        yield from _wrapped(f"{INDENT}{stage.name}: ", f"{text} ({at(stage.span)})")


def _numbers(table: Mapping[str, Fraction]) -> str:
    """`vlm 1e-05, rest 3e-05`; a number alone where it counts for all."""
    if list(table) == ["rest"]:
        return f"{float(table['rest']):g}"
    even = len(set(table.values())) == 1 and set(table.values()) == {1}
    return ", ".join(name if even else f"{name} {float(value):g}" for name, value in table.items())


def _lines(title: str, lines: Iterable[str]) -> Iterator[str]:
    for index, line in enumerate(lines):
        if not index:
            yield title
        yield from _wrapped(f"{INDENT}- ", line)
