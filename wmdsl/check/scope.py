"""The model while it is being checked, and how a mistake ends the work on one part only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from wmdsl.check.model import (
    Align,
    Attend,
    Codec,
    Condition,
    Cross,
    Extern,
    Generate,
    Hand,
    Join,
    Layout,
    Planner,
    Query,
    Segment,
    Stage,
    Stream,
    Trunk,
    Unrunnable,
)
from wmdsl.diagnostics import Diagnostic, Diagnostics
from wmdsl.source import Span
from wmdsl.syntax import ast

if TYPE_CHECKING:
    from wmdsl.resolve import Spec


class Mistake(Exception):
    """Ends the work on one part of a spec; without a diagnostic the cause is reported already."""

    def __init__(self, diagnostic: Diagnostic | None = None) -> None:
        super().__init__()
        self.diagnostic = diagnostic


class Values(dict):
    """Typed attributes by name; to read one that was in error ends the work, silently."""

    damaged = False

    def complete(self) -> dict[str, object]:
        """All of them; ends the work where one was in error."""
        if self.damaged:
            raise Mistake
        return dict(self)

    def __missing__(self, name: str) -> object:
        raise Mistake


@dataclass(slots=True)
class Draft:
    """Tables of what is checked so far; None stands for a declaration in error.

    `read` holds the references of the segments that something reads, `used` the codecs in use,
    `missing` the names that are reported as missing.
    """

    spec: Spec
    diagnostics: Diagnostics
    streams: dict[str, Stream | None] = field(default_factory=dict)
    codecs: dict[str, Codec | None] = field(default_factory=dict)
    trunks: dict[str, Trunk | None] = field(default_factory=dict)
    joins: dict[str, Join | None] = field(default_factory=dict)
    crosses: dict[str, Cross | None] = field(default_factory=dict)
    conditions: dict[str, Condition | None] = field(default_factory=dict)
    aligns: dict[str, Align | None] = field(default_factory=dict)
    hands: dict[str, Hand | None] = field(default_factory=dict)
    attends: dict[str, Attend] = field(default_factory=dict)
    generates: dict[str, Generate | None] = field(default_factory=dict)
    queries: dict[str, Query | None] = field(default_factory=dict)
    layouts: dict[str, Layout | None] = field(default_factory=dict)
    externs: dict[str, Extern | None] = field(default_factory=dict)
    stages: dict[str, Stage | None] = field(default_factory=dict)
    planners: dict[str, Planner | None] = field(default_factory=dict)
    symbols: dict[str, bool | None] = field(default_factory=dict)
    unrunnable: list[Unrunnable] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    used_externs: set[str] = field(default_factory=set)

    def report(self, diagnostic: Diagnostic) -> None:
        """Add a diagnostic, with a note for each parameter behind a value that it marks."""
        notes = (note for label in diagnostic.labels for note in self.spec.notes(label.span))
        notes = tuple(dict.fromkeys((*diagnostic.notes, *notes)))
        self.diagnostics.add(replace(diagnostic, notes=notes))

    def of(self, form: str) -> tuple[ast.Declaration, ...]:
        """The declarations of one form, as written."""
        return tuple(self.spec.of(form))

    def cannot_run(self, code: str, what: str, span: Span) -> None:
        self.unrunnable.append(Unrunnable(code, what, span))

    def refuse_slices(self, segments: Iterable[Segment], span: Span) -> None:
        """A part of a segment can be read, but neither be generated nor sought on its own."""
        if any("[" in segment.name for segment in segments):
            self.cannot_run("WM809", "a slice of a segment on its own", span)

    def mark_read(self, segment: Segment) -> None:
        """Note that something reads the segment, or the one it is a slice of."""
        self.read.add(segment.whole)

    @property
    def readable(self) -> bool:
        """Whether no text was skipped, so that what is not declared is truly absent."""
        damaged = any(part.damaged for part in self.spec.declarations)
        return not (self.spec.skipped or damaged)

    @property
    def sound(self) -> bool:
        """Whether every part could be built."""
        tables = (self.streams, self.codecs, self.trunks, self.joins, self.crosses, self.conditions,
                  self.aligns, self.hands, self.generates, self.queries, self.layouts,
                  self.externs, self.stages, self.planners, self.symbols)  # fmt: skip
        return self.readable and not any(None in table.values() for table in tables)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Report a mistake made inside and go on behind."""
        try:
            yield
        except Mistake as mistake:
            if mistake.diagnostic is not None:
                self.report(mistake.diagnostic)

    def attempt(self, build: Callable[..., object], *arguments: object) -> object | None:
        """The value built, or None where a mistake was made (and is reported)."""
        with self.guard():
            return build(self, *arguments)
        return None
