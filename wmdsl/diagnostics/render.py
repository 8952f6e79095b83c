"""Diagnostics -> text for people.  The plain form is stable: goldens hold it byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from wmdsl.diagnostics.diagnostic import Diagnostic, Label
from wmdsl.source import Source

WIDEST = 100
_Paint = Callable[[str, str], str]
_COLOURS = {"error": "1;31", "warning": "1;33", "frame": "1;34", "head": "1", "help": "1;36"}


def to_text(diagnostics: Iterable[Diagnostic], *, colour: bool = False) -> str:
    """All diagnostics with their lines of source, and a line that counts them."""
    found = list(diagnostics)
    if not found:
        return ""
    paint = _painted if colour else _plain
    texts = [_diagnostic(entry, paint) for entry in found]
    return "\n\n".join(texts) + f"\n\n{count(found)}\n"


def count(diagnostics: Sequence[Diagnostic]) -> str:
    """`2 errors and 1 warning`."""
    errors = sum(entry.severity == "error" for entry in diagnostics)
    warnings = len(diagnostics) - errors
    parts = [
        f"{number} {word}{'s' if number > 1 else ''}"
        for number, word in ((errors, "error"), (warnings, "warning"))
        if number
    ]
    return " and ".join(parts) or "no errors"


def _plain(text: str, style: str) -> str:
    return text


def _painted(text: str, style: str) -> str:
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m"


def _diagnostic(entry: Diagnostic, paint: _Paint) -> str:
    severity = paint(f"{entry.severity}[{entry.code}]", entry.severity)
    lines = [f"{severity}{paint(f': {entry.message}', 'head')}"]
    margin = max((len(str(_end_line(label))) for label in entry.labels), default=1)
    first = True
    for source, labels in _by_source(entry):
        lines += _snippet(source, labels, margin, first, entry.severity, paint)
        first = False
    tail = [("note", note) for note in entry.notes] + [("help", entry.help)] * bool(entry.help)
    if tail and entry.labels:
        lines.append(paint(f"{' ' * margin} |", "frame"))
    for kind, text in tail:
        lines += _paragraph(kind, text, margin, paint)
    return "\n".join(line.rstrip() for line in lines)


def _end_line(label: Label) -> int:
    return label.span.source.position(label.span.start)[0]


def _by_source(entry: Diagnostic) -> list[tuple[Source, list[Label]]]:
    """Labels by file, the file of the primary label first."""
    primary = entry.primary
    names = [label.span.source.name for label in entry.labels]
    if primary is not None:
        names.insert(0, primary.span.source.name)
    order = list(dict.fromkeys(names))
    labels = sorted(
        entry.labels, key=lambda label: (order.index(label.span.source.name), label.span.start)
    )
    groups = groupby(labels, key=lambda label: label.span.source.name)
    return [(found[0].span.source, found) for found in (list(group) for _, group in groups)]


def _snippet(
    source: Source, labels: list[Label], margin: int, first: bool, severity: str, paint: _Paint
) -> list[str]:
    shown = next((label for label in labels if label.primary), labels[0])
    line, column = source.position(shown.span.start)
    arrow = "-->" if first else ":::"
    bar = paint(f"{' ' * margin} |", "frame")
    head = paint(" " * margin + arrow, "frame")
    lines = [f"{head} {source.name}:{line}:{column}"]
    if not source.text:
        return [*lines, *(f"{bar} {label.text}" for label in labels)]
    lines.append(bar)
    before = None
    for number, group in groupby(labels, key=lambda label: source.position(label.span.start)[0]):
        if before is not None and number > before + 1:
            lines.append(paint("...", "frame"))
        lines += _marked_line(source, number, list(group), margin, severity, paint)
        before = number
    return lines


def _marked_line(
    source: Source, number: int, labels: list[Label], margin: int, severity: str, paint: _Paint
) -> list[str]:
    text = source.line(number).replace("\t", " ")
    start = source.line_starts[number - 1]
    cut = max(0, min(label.span.start for label in labels) - start - WIDEST + 30)
    shown = ("..." + text[cut + 3 :] if cut else text)[:WIDEST]
    bar = paint(f"{' ' * margin} |", "frame")
    lines = [f"{paint(f'{number:>{margin}} |', 'frame')} {shown}"]
    for label in labels:
        column = label.span.start - start - cut
        length = min(label.span.end - label.span.start, len(shown) - column)
        mark = ("^" if label.primary else "-") * max(length, 1)
        style = severity if label.primary else "frame"
        lines.append(f"{bar} {' ' * column}{paint(f'{mark} {label.text}'.rstrip(), style)}")
    return lines


def _paragraph(kind: str, text: str, margin: int, paint: _Paint) -> list[str]:
    """`= help: ...`, wrapped under itself."""
    lead = f"{' ' * margin} = {kind}: "
    words, rows, row = text.split(" "), [], ""
    for word in words:
        if row and len(lead) + len(row) + 1 + len(word) > WIDEST:
            rows.append(row)
            row = word
        else:
            row = f"{row} {word}" if row else word
    rows.append(row)
    head = f"{paint(' ' * margin + ' =', 'frame')} {paint(f'{kind}:', 'help')} {rows[0]}"
    return [head, *(" " * len(lead) + rest for rest in rows[1:])]
