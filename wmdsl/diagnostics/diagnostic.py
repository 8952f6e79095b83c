"""Diagnostics as data; prose is written by the constructors of each stage, drawn by `render`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from wmdsl.diagnostics.codes import CODES
from wmdsl.record import record
from wmdsl.source import Span


@record
class Label:
    """A marked place; the primary one is where the mistake is, others explain it."""

    span: Span
    text: str = ""
    primary: bool = True


@record
class Edit:
    """Replace the characters of `span` by `text`."""

    span: Span
    text: str


@record
class Fix:
    """Edits that end the mistake; `safe` ones cannot change what was meant."""

    safe: bool
    edits: tuple[Edit, ...]


@record
class Diagnostic:
    """One mistake with everything that a reader or an editor needs to end it."""

    code: str
    message: str
    labels: tuple[Label, ...]
    notes: tuple[str, ...] = ()
    help: str = ""
    fixes: tuple[Fix, ...] = ()

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"{self.code} is not in wmdsl/diagnostics/codes.py")

    @property
    def severity(self) -> str:
        """`error` or `warning`, as the table of codes says."""
        return CODES[self.code].severity

    @property
    def primary(self) -> Label | None:
        """The first primary label; None where no file could be read."""
        return next((label for label in self.labels if label.primary), None)

    @property
    def place(self) -> tuple[str, int, str]:
        """The key of source order."""
        label = self.primary
        if label is None:
            return ("", 0, self.code)
        return (label.span.source.name, label.span.start, self.code)


@dataclass(slots=True)
class Diagnostics:
    """A bag that every stage adds to; the same code at the same place counts once."""

    _found: dict[tuple[str, int, str, str], Diagnostic] = field(default_factory=dict)

    def add(self, diagnostic: Diagnostic) -> None:
        detail = diagnostic.message if diagnostic.primary is None else ""
        self._found.setdefault((*diagnostic.place, detail), diagnostic)

    def extend(self, others: Iterable[Diagnostic]) -> None:
        for diagnostic in others:
            self.add(diagnostic)

    def sorted(self) -> tuple[Diagnostic, ...]:
        """All diagnostics in source order."""
        return tuple(sorted(self._found.values(), key=lambda entry: entry.place))

    @property
    def has_errors(self) -> bool:
        return any(entry.severity == "error" for entry in self._found.values())

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.sorted())

    def __len__(self) -> int:
        return len(self._found)
