"""Closed spec -> typed model."""

from __future__ import annotations

from wmdsl.check import errors
from wmdsl.check.assertions import build_assertions
from wmdsl.check.codecs import build_codecs
from wmdsl.check.couplings import build_couplings
from wmdsl.check.masks import build_attends
from wmdsl.check.model import FlowAssertion, Model
from wmdsl.check.planners import build_planners
from wmdsl.check.queries import build_queries
from wmdsl.check.scope import Draft
from wmdsl.check.stages import build_stages
from wmdsl.check.streams import build_streams
from wmdsl.check.symbols import build_externs, build_layouts, build_symbols
from wmdsl.check.training import build_generates, check_horizons
from wmdsl.check.trunks import build_joins, build_trunks
from wmdsl.check.whole import check_whole
from wmdsl.diagnostics import Diagnostics
from wmdsl.resolve import Spec
from wmdsl.resolve.canon import canon, identity
from wmdsl.syntax import ast

UNTYPED = ("stage", "planner", "extern", "objects", "predicate", "operator")
BASELESS = ("WM101", "WM102", "WM103", "WM104", "WM112", "WM113", "WM015")
PARTS = (build_streams, build_codecs, build_trunks, build_joins, build_couplings, build_layouts,
         build_externs, build_attends, build_generates, build_queries, build_stages, build_planners,
         build_symbols)  # fmt: skip


def check(spec: Spec, diagnostics: Diagnostics) -> Model | None:
    """The typed model; None where the bag holds an error, of this stage or of an earlier one.

    A spec whose base could not be found is not looked at: whatever it refers to may be there.
    """
    if any(entry.code in BASELESS for entry in diagnostics):
        return None
    draft = Draft(spec, diagnostics)
    _check_names(draft)
    for build in PARTS:
        build(draft)
    assertions = build_assertions(draft)
    if draft.sound:
        check_horizons(draft)
        check_whole(draft)
    return None if diagnostics.has_errors else _model(draft, assertions)


def _check_names(draft: Draft) -> None:
    """Streams, codecs and trunks stand in the same places, so their names must differ."""
    owners: dict[str, ast.Declaration] = {}
    for declaration in draft.spec.of("stream", "codec", "trunk"):
        first = owners.setdefault(declaration.name.text, declaration)
        if first.form != declaration.form:
            draft.report(errors.names.name_shared(first, declaration))


def _model(draft: Draft, assertions: tuple[FlowAssertion, ...]) -> Model:
    spec = draft.spec
    canonical = canon(spec)
    return Model(
        name=spec.name,
        title=spec.title,
        edition=spec.edition,
        canonical=canonical,
        sha256=identity(canonical),
        parameters={part.name.text: part.value.span.text for part in spec.parameters},
        streams=draft.streams,
        codecs=draft.codecs,
        trunks=draft.trunks,
        joins=draft.joins,
        crosses=draft.crosses,
        conditions=draft.conditions,
        aligns=draft.aligns,
        hands=draft.hands,
        attends=draft.attends,
        generates=draft.generates,
        queries=draft.queries,
        layouts=draft.layouts,
        externs=draft.externs,
        stages=draft.stages,
        planners=draft.planners,
        assertions=assertions,
        declarations=_untyped(draft),
        unrunnable=tuple(dict.fromkeys(draft.unrunnable)),
        span=spec.span,
    )


def _untyped(draft: Draft) -> dict[str, ast.Declaration]:
    """Declarations that stay as written: symbols, stages, and the attends of layouts."""
    attends = [entry for entry in draft.spec.of("attend") if entry.name.text in draft.layouts]
    kept = (*draft.spec.of(*UNTYPED), *attends)
    return {f"{entry.form} {entry.name.text}": entry for entry in kept}
