"""Assertions about what may reach what: their ends as nodes of the information-flow graph."""

from __future__ import annotations

from wmdsl.check import errors
from wmdsl.check.model import FlowAssertion
from wmdsl.check.names import groups_of_trunk, missing, segments, trunk_of
from wmdsl.check.scope import Draft, Mistake
from wmdsl.syntax import ast

End = tuple[str, str]


def build_assertions(draft: Draft) -> tuple[FlowAssertion, ...]:
    """One assertion for each target segment; those in error are left out."""
    made = [draft.attempt(_assertion, written) for written in draft.spec.assertions]
    return tuple(part for parts in made for part in parts or ())


def _assertion(draft: Draft, written: ast.Assertion) -> tuple[FlowAssertion, ...]:
    sources = tuple(end for source in written.sources for end in _ends(draft, source))
    where = written.where.text if written.where else None
    if where and draft.spec.find(where, "query", "stage", "layout") is None:
        known = [entry.name.text for entry in draft.spec.of("query", "stage", "layout")]
        raise Mistake(errors.names.unknown_place(written.where, known))
    return tuple(
        FlowAssertion(written.kind, sources, written.verb, target, where, written.span)
        for target in _ends(draft, written.target)
    )


def _ends(draft: Draft, expression: ast.Expression) -> tuple[End, ...]:
    """`segment`, `trunk`, `group` (trunk.segment), `condition` or `align`, with its name."""
    if not isinstance(expression, ast.Reference):
        raise Mistake(errors.names.segment_wanted(expression))
    name = expression.path[0]
    if name in draft.streams:
        return tuple(("segment", found.reference) for found in segments(draft, expression))
    if name in draft.trunks:
        trunk = trunk_of(draft, expression, "a trunk")
        if len(expression.path) == 1:
            return (("trunk", name),)
        found = groups_of_trunk(draft, trunk, expression)
        return tuple(("group", f"{name}.{group.name}") for group in found)
    for form, table in (("condition", draft.conditions), ("align", draft.aligns)):
        if name in table:
            return ((form, name),)
    known = {**draft.streams, **draft.trunks, **draft.conditions, **draft.aligns}
    raise missing(draft, name, errors.names.unknown_stream(expression, known, None))
