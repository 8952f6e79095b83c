"""The pipeline on one page: text, tree, spec, model, plan, program, source, module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmdsl.diagnostics.diagnostic import Diagnostic, Diagnostics
from wmdsl.diagnostics.problem import SpecError
from wmdsl.record import field, record
from wmdsl.source import Source

if TYPE_CHECKING:
    from torch import nn

Observer = Callable[[str, Any], None]
FORGIVING = ("parse", "resolve")  # what they leave out is reported; the next stage goes on
STAGES = ("parse", "resolve", "check", "plan", "lower", "emit")


@record
class Options:
    """What a compilation is told beside the text."""

    parameters: Mapping[str, object] = field(default_factory=dict)
    model: str | None = None  # the last one of the file where none is named
    stop_after: str = "plan"
    standalone: bool = False
    naive: bool = False  # queries without deletion, hoisting and caches, for comparison
    densities: bool = False  # log-densities of queries instead of losses and queries
    observe: Observer = lambda stage, value: None


def run(source: Source, options: Options, diagnostics: Diagnostics) -> Any:
    """Carry a source through the stages: the last one's value, or None where errors stopped it."""
    stages: dict[str, Callable[[Any], Any]] = {
        "parse": lambda value: _parse(value, diagnostics),
        "resolve": lambda value: _resolve(value, options, diagnostics),
        "check": lambda value: _check(value, diagnostics),
        "plan": lambda value: _plan(value, options, diagnostics),
        "lower": lambda value: _lower(value, options, diagnostics),
        "emit": lambda value: _emit(value, options),
    }
    value: Any = source
    for name, stage in stages.items():
        value = stage(value)
        if value is None or (diagnostics.has_errors and name not in FORGIVING):
            return None
        options.observe(name, value)
        if name == options.stop_after:
            return value
    return value


def _parse(source: Source, diagnostics: Diagnostics) -> Any:
    from wmdsl.syntax import parse

    return parse(source, diagnostics)


def _resolve(file: Any, options: Options, diagnostics: Diagnostics) -> Any:
    from wmdsl.resolve import resolve

    return resolve(file, options.parameters, diagnostics, model=options.model)


def _check(spec: Any, diagnostics: Diagnostics) -> Any:
    from wmdsl.check import check

    return check(spec, diagnostics)


def _plan(model: Any, options: Options, diagnostics: Diagnostics) -> Any:
    from wmdsl.plan import build_plan
    from wmdsl.plan.naive import naive

    plan = build_plan(model, diagnostics)
    return naive(plan) if options.naive else plan


def _lower(plan: Any, options: Options, diagnostics: Diagnostics) -> Any:
    """The program of the canonical spec, so that equal specs give equal files, however written.

    The plan as written is lowered first: what cannot run is reported where the user wrote it.
    """
    from wmdsl.lower import lower

    if lower(plan, diagnostics) is None:
        return None
    canonical = Source("model.wm", plan.model.canonical)
    again = run(canonical, Options(naive=options.naive), diagnostics)
    return lower(again, diagnostics, options.densities)


def _emit(program: Any, options: Options) -> str:
    from wmdsl.emit import emit

    return emit(program, standalone=options.standalone)


def as_source(path_or_text: str | Path, diagnostics: Diagnostics) -> Source | None:
    """A file's source, or that of a text: what contains a line break or a brace is text."""
    from wmdsl.syntax import read_source

    if isinstance(path_or_text, str) and ("\n" in path_or_text or "{" in path_or_text):
        return Source("<text>", path_or_text)
    return read_source(path_or_text, diagnostics)


def examine(source: Source, options: Options, diagnostics: Diagnostics) -> Any:
    """Report every mistake that shows before lowering; the model, or None where it is not sound."""
    from wmdsl.plan import judge

    model = run(source, replace(options, stop_after="check"), diagnostics)
    if model is not None:
        judge(model, diagnostics)
    return model


def diagnose(path_or_text: str | Path, parameters: Mapping[str, object] = {}) -> list[Diagnostic]:
    """All diagnostics of a spec."""
    diagnostics = Diagnostics()
    source = as_source(path_or_text, diagnostics)
    if source is not None:
        examine(source, Options(parameters), diagnostics)
    return list(diagnostics)


def front(path_or_text: str | Path, parameters: Mapping[str, object] = {}, **options: Any) -> Any:
    """The value of a stage (the plan, unless `stop_after` says otherwise); raises SpecError."""
    diagnostics = Diagnostics()
    source = as_source(path_or_text, diagnostics)
    value = source and run(source, Options(parameters, **options), diagnostics)
    if diagnostics.has_errors:
        raise SpecError(diagnostics.sorted())
    return value


def source(path_or_text: str | Path, parameters: Mapping[str, object], **options: bool) -> str:
    return front(path_or_text, parameters, stop_after="emit", **options)


def module(
    path_or_text: str | Path, parameters: Mapping[str, object], *, naive: bool = False
) -> nn.Module:
    """Emit and import: the module that runs is the emitted source."""
    from wmdsl.emit.load import load_source

    seen: dict[str, Any] = {}
    options = {"stop_after": "emit", "observe": seen.__setitem__, "naive": naive}
    text = front(path_or_text, parameters, **options)
    found = load_source(text, seen["plan"])
    found.density_source = partial(source, found.spec, {}, densities=True)
    return found
