"""Planners: which queries a search asks, how candidates are scored, where they may lie."""

from __future__ import annotations

from wmdsl.check import errors
from wmdsl.check.couplings import clause_of
from wmdsl.check.model import Planner, Segment
from wmdsl.check.names import all_segments, segments, single
from wmdsl.check.scope import Draft, Mistake, Values
from wmdsl.check.stages import names_of
from wmdsl.check.streams import samples
from wmdsl.check.values import attributes
from wmdsl.syntax import ast
from wmdsl.vocabulary import FORMS, PLANNERS

FORM = "WM808"


def build_planners(draft: Draft) -> None:
    """Fill `draft.planners`."""
    for declaration in draft.of("planner"):
        draft.planners[declaration.name.text] = draft.attempt(_planner, declaration)


def _planner(draft: Draft, declaration: ast.Declaration) -> Planner:
    term = clause_of(declaration, "kind").items[0].terms[0]
    if term.dotted not in PLANNERS:
        raise Mistake(errors.attributes.unknown_word(term.span, term.dotted, "planner", PLANNERS))
    kind = PLANNERS[term.dotted]
    values = attributes(draft, FORMS["planner"], declaration, kind)
    queries = names_of(draft, values["query"], "query", draft.queries)
    operators = [entry.name.text for entry in draft.of("operator")]
    names_of(draft, values["over"], "operator", operators)
    score = all_segments(draft, values["score"] or ())
    goal = tuple(part for item in values["goal"] or () for part in _goal(draft, item))
    for segment in (*score, *(segment for _, segment in goal)):
        draft.mark_read(segment)
    if not kind.runs:
        draft.cannot_run(FORM, f"planners of kind {kind.name}", declaration.span)
    elif not score and not goal:
        draft.cannot_run(FORM, "planners without a goal or a score", declaration.span)
    _check_bounds(declaration, values)
    return Planner(
        name=declaration.name.text,
        kind=kind.name,
        queries=queries,
        score=score,
        goal=goal,
        prior=_prior(draft, values),
        hold=_steps(draft, values, "hold") or 1,
        execute=_steps(draft, values, "execute"),
        attributes=values.complete(),
        span=declaration.span,
    )


def _goal(draft: Draft, item: ast.Item) -> tuple[tuple[str | None, Segment], ...]:
    """`corner.future`, or `eyes(corner.future)` to compare what a codec makes of it."""
    term = single(item)
    if not isinstance(term, ast.Call):
        return tuple((None, segment) for segment in segments(draft, term))
    if not isinstance(term.function, ast.Reference) or len(term.arguments) != 1:
        raise Mistake(errors.names.segment_wanted(term))
    (codec,) = names_of(draft, [term.function], "codec", draft.codecs)
    draft.used.add(codec)
    return tuple((codec, segment) for segment in segments(draft, single(term.arguments[0])))


def _prior(draft: Draft, values: Values) -> str | None:
    written = values.get("prior")
    found = names_of(draft, [written] if written else (), "query", draft.queries)
    return found[0] if found else None


def _steps(draft: Draft, values: Values, name: str) -> int | None:
    """A length in steps of the one action of the spec."""
    length = values.get(name)
    actions = [s for s in draft.streams.values() if s is not None and s.modality == "action"]
    if length is None or not actions:
        return None
    return samples(length, actions[0].rate_hz)


def _check_bounds(declaration: ast.Declaration, values: Values) -> None:
    if "low" in values and values["low"] >= values["high"]:
        raise Mistake(errors.planners.empty_range(declaration, values["low"], values["high"]))
    if "elites" in values and values["elites"] > values["samples"]:
        raise Mistake(
            errors.planners.too_many_elites(declaration, values["elites"], values["samples"])
        )
