"""Queries: what is sought given what, with how many steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

from wmdsl.check import errors
from wmdsl.check.couplings import clause_of
from wmdsl.check.model import Generate, Query, Segment, Stream
from wmdsl.check.names import all_segments, missing, stream_of
from wmdsl.check.scope import Draft, Mistake, Values
from wmdsl.check.streams import samples
from wmdsl.check.values import attributes, integer, number
from wmdsl.diagnostics import Diagnostic
from wmdsl.syntax import ast
from wmdsl.vocabulary import FORMS, SAMPLERS, Attribute

STEPPED = ("flow", "diffusion", "edm", "masked")
NOISED = ("flow", "diffusion", "edm")
FITTING = {"flow": ("euler", "heun", "multistep"),
           "diffusion": ("ddim", "ancestral", "multistep"),
           "edm": ("euler", "heun", "multistep")}  # fmt: skip
SCALE = Attribute("cfg", "real", "Guidance scale.", minimum=0)
STEPS = Attribute("steps", "integer", "Sampling steps.", minimum=1, maximum=100_000)
TERMINAL = Attribute("terminal", "share", "Noise level.")


def build_queries(draft: Draft) -> None:
    """Fill `draft.queries`."""
    for declaration in draft.of("query"):
        draft.queries[declaration.name.text] = draft.attempt(_query, declaration)


def _query(draft: Draft, declaration: ast.Declaration) -> Query:
    values = attributes(draft, FORMS["query"], declaration)
    clause_of(declaration, "sought")
    sought = tuple(
        tuple(_sought(draft, clause)) for clause in declaration.clauses if clause.role == "sought"
    )
    clause = declaration.clause("given")
    given = _with_slices(draft, all_segments(draft, clause.items) if clause else ())
    flat = tuple(segment for group in sought for segment in group)
    _check_apart(declaration, flat, given)
    if draft.trunks:
        _check_generated(draft, declaration, flat)
    execute = _execute(draft, declaration, values, flat)
    _check_ensemble(draft, declaration, execute, flat)
    return Query(
        name=declaration.name.text,
        sought=sought,
        given=given,
        steps=_steps(draft, values, flat),
        sampler=_sampler(draft, declaration, values, flat),
        execute=execute,
        pinned=_pinned(draft, values, flat + given),
        guidance=_guidance(draft, declaration, values, given),
        terminal=_terminal(draft, values),
        attributes=values.complete(),
        span=declaration.span,
    )


def _check_ensemble(
    draft: Draft, declaration: ast.Declaration, execute: int | None, sought: tuple[Segment, ...]
) -> None:
    """Several chunks must speak of one step."""
    attribute = declaration.attribute("ensemble")
    if attribute is None:
        return
    actions = [s for s in sought if draft.streams[s.stream].modality == "action"]
    if not actions:
        raise Mistake(errors.queries.nothing_to_execute(attribute))
    ahead = sum(offset >= 0 for offset in actions[0].offsets)
    if execute is None or execute >= ahead:
        raise Mistake(errors.queries.nothing_to_average(attribute, actions[0]))


def _with_slices(draft: Draft, given: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """What is given comes with those parts of it that stand in trunks on their own."""
    names = {segment.reference for segment in given}
    slices = {
        group.name: group.segment
        for trunk in draft.trunks.values()
        for group in (trunk.groups if trunk else ())
        if group.name not in names and group.name.partition("[")[0] in names
    }
    return (*given, *slices.values())


def _sought(draft: Draft, clause: ast.Clause) -> tuple[Segment, ...]:
    found = all_segments(draft, clause.items)
    draft.refuse_slices(found, clause.span)
    for segment in found:
        if segment.observed:
            raise Mistake(errors.queries.seeks_observed(clause.span, segment,
                                                draft.streams[segment.stream]))  # fmt: skip
    return found


def _check_apart(
    declaration: ast.Declaration, sought: tuple[Segment, ...], given: tuple[Segment, ...]
) -> None:
    names = [segment.reference for segment in sought]
    for name in names:
        if names.count(name) > 1 or name in [segment.reference for segment in given]:
            raise Mistake(errors.queries.sought_and_given(declaration, name))


def _check_generated(
    draft: Draft, declaration: ast.Declaration, sought: tuple[Segment, ...]
) -> None:
    """Something must generate what is sought, or predict its features."""
    if not draft.readable or None in {**draft.generates, **draft.aligns}.values():
        return
    generated = generators(draft)
    compared = {align.target.reference for align in draft.aligns.values()}
    computed = {part for extern in draft.externs.values() if extern for part in extern.gives}
    for segment in sought:
        if segment in computed:
            continue
        if segment.reference in compared - generated.keys():
            what = f"a question for features of {segment.reference}"
            draft.cannot_run("WM805", what, declaration.span)
        elif segment.reference not in generated:
            found = errors.queries.nothing_generates(declaration, segment, generated)
            raise missing(draft, f"generate {segment.reference}", found)


def generators(draft: Draft) -> dict[str, Generate]:
    """The generate of each generated segment."""
    return {
        segment.reference: generate
        for generate in draft.generates.values()
        if generate
        for segment in generate.segments
    }


def _steps(draft: Draft, values: Values, sought: tuple[Segment, ...]) -> Mapping[str, int]:
    """Steps by stream; one number counts for every stream that is sampled in steps."""
    stepped = _streams_of(draft, STEPPED)
    return {
        name: integer(STEPS, item)
        for name, item in _by_stream(
            draft, values["steps"], stepped, errors.queries.steps_malformed, errors.queries.no_steps
        )
    }


def _streams_of(draft: Draft, objectives: Sequence[str]) -> list[str]:
    """Streams that are generated by one of the objectives."""
    return sorted({
        segment.stream
        for generate in draft.generates.values()
        if generate and generate.objective in objectives
        for segment in generate.segments
    })  # fmt: skip


def _by_stream(
    draft: Draft,
    items: Sequence[ast.Item],
    streams: Sequence[str],
    malformed: Callable[[ast.Item], Diagnostic],
    unfit: Callable[[ast.Item, str, Sequence[str]], Diagnostic],
) -> Iterator[tuple[str, ast.Item]]:
    """One number for all of the streams, or `camera 25, action 50`: (stream, item of a number)."""
    if len(items) == 1 and len(items[0].terms) == 1:
        yield from ((name, items[0]) for name in streams)
        return
    for item in items:
        if len(item.terms) != 2 or not isinstance(item.terms[0], ast.Reference):
            raise Mistake(malformed(item))
        stream = stream_of(draft, item.terms[0])
        if stream.name not in streams and None not in draft.generates.values():
            raise Mistake(unfit(item, stream.name, streams))
        yield stream.name, ast.Item(item.terms[1:], item.span)


def _sampler(
    draft: Draft, declaration: ast.Declaration, values: Values, sought: tuple[Segment, ...]
) -> str | None:
    name = values["sampler"]
    if name is None:
        return None
    attribute = declaration.attribute("sampler")
    if not SAMPLERS[name].runs:
        draft.cannot_run("WM806", f"the sampler {name}", attribute.span)
    for segment in sought:
        generate = generators(draft).get(segment.reference)
        fitting = FITTING.get(generate.objective, ()) if generate else (name,)
        if name not in fitting:
            raise Mistake(errors.queries.sampler_mismatch(attribute, name, generate, fitting))
    return name


def _execute(
    draft: Draft, declaration: ast.Declaration, values: Values, sought: tuple[Segment, ...]
) -> int | None:
    """Executed samples of the first sought action."""
    if values["execute"] is None:
        return None
    actions = [s for s in sought if draft.streams[s.stream].modality == "action"]
    attribute = declaration.attribute("execute")
    if not actions:
        raise Mistake(errors.queries.nothing_to_execute(attribute))
    count = samples(values["execute"], draft.streams[actions[0].stream].rate_hz)
    if count > actions[0].length:
        raise Mistake(errors.rates.executes_too_much(attribute, count, actions[0]))
    return count


def _guidance(
    draft: Draft, declaration: ast.Declaration, values: Values, given: tuple[Segment, ...]
) -> Mapping[str, Fraction]:
    """Scales by stream; one number counts for every stream that is denoised."""
    items, attribute = values["cfg"], declaration.attribute("cfg")
    if items is None:
        return {}
    if None not in draft.streams.values() and not left_out(draft.streams, given):
        raise Mistake(errors.queries.nothing_left_out(attribute))
    denoised = _streams_of(draft, NOISED)
    scales = _by_stream(
        draft, items, denoised, errors.queries.guidance_malformed, errors.queries.not_guided
    )
    return {name: number(SCALE, item) for name, item in scales}


def _terminal(draft: Draft, values: Values) -> Mapping[str, Fraction]:
    """Levels at which sampling stops, by stream; one number counts for every denoised stream."""
    denoised = _streams_of(draft, NOISED)
    levels = {}
    for name, item in _by_stream(
        draft,
        values["terminal"] or (),
        denoised,
        errors.queries.terminal_malformed,
        errors.queries.not_stopped,
    ):
        levels[name] = number(TERMINAL, item)
        if levels[name] == 1:
            raise Mistake(errors.queries.never_begun(item, name))
    return {name: level for name, level in levels.items() if level}


def left_out(streams: Mapping[str, Stream], given: tuple[Segment, ...]) -> tuple[str, ...]:
    """What guidance contrasts with: given streams with a dropout, or else the given texts."""
    names = dict.fromkeys(segment.stream for segment in given)
    found = tuple(name for name in names if streams[name].attributes.get("dropout"))
    return found or tuple(name for name in names if streams[name].modality == "language")


def _pinned(draft: Draft, values: Values, named: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Segments at pure noise: generated by denoising, neither sought nor given."""
    if values["pinned"] is None:
        return ()
    pinned = all_segments(draft, values["pinned"])
    generated = generators(draft)
    for segment in pinned:
        generate = generated.get(segment.reference)
        wrong = segment in named or generate is None or generate.objective not in NOISED
        if wrong and None not in draft.generates.values():
            raise Mistake(errors.queries.cannot_pin(values["pinned"], segment, segment in named))
    return pinned
