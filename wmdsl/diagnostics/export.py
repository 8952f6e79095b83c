"""Diagnostics -> JSON, SARIF 2.1.0 and GitHub annotations, for other programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wmdsl.diagnostics.codes import CODES
from wmdsl.diagnostics.diagnostic import Diagnostic, Fix, Label
from wmdsl.source import Span

FORMAT_VERSION = 1
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def to_json(diagnostics: Iterable[Diagnostic]) -> str:
    """The contract's `check --format json`."""
    import json

    found = [_diagnostic(entry) for entry in diagnostics]
    return json.dumps({"format_version": FORMAT_VERSION, "diagnostics": found}, indent=2) + "\n"


def _diagnostic(entry: Diagnostic) -> dict[str, Any]:
    return {
        "code": entry.code,
        "severity": entry.severity,
        "message": entry.message,
        "labels": [
            {**_place(label.span), "text": label.text, "primary": label.primary}
            for label in entry.labels
        ],
        "notes": list(entry.notes),
        "help": entry.help,
        "fixes": [_fix(fix) for fix in entry.fixes],
    }


def _fix(fix: Fix) -> dict[str, Any]:
    return {
        "safe": fix.safe,
        "edits": [{**_place(edit.span), "text": edit.text} for edit in fix.edits],
    }


def _place(span: Span) -> dict[str, Any]:
    line, column = span.source.position(span.start)
    end_line, end_column = span.source.position(span.end)
    return {"file": span.source.name, "line": line, "column": column,
            "end_line": end_line, "end_column": end_column}  # fmt: skip


def to_sarif(diagnostics: Iterable[Diagnostic], version: str) -> str:
    """One SARIF run; code-scanning pages show it beside the source."""
    import json

    found = list(diagnostics)
    used = sorted({entry.code for entry in found})
    rules = [
        {"id": code, "name": CODES[code].title,
         "shortDescription": {"text": CODES[code].title},
         "fullDescription": {"text": CODES[code].meaning},
         "defaultConfiguration": {"level": CODES[code].severity}}
        for code in used
    ]  # fmt: skip
    driver = {"name": "wmdsl", "version": version, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints",
           "results": [_result(entry, used) for entry in found]}  # fmt: skip
    log = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2) + "\n"


def _result(entry: Diagnostic, used: list[str]) -> dict[str, Any]:
    text = "\n".join([entry.message, *entry.notes, *([entry.help] if entry.help else [])])
    primary = [label for label in entry.labels if label.primary]
    others = [label for label in entry.labels if not label.primary]
    return {
        "ruleId": entry.code,
        "ruleIndex": used.index(entry.code),
        "level": entry.severity,
        "message": {"text": text},
        "locations": [_location(label) for label in primary[:1]],
        "relatedLocations": [_location(label) for label in primary[1:] + others],
        "fixes": [
            {"description": {"text": entry.help}, "artifactChanges": [_change(fix)]}
            for fix in entry.fixes
        ],
    }


def _location(label: Label) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": label.span.source.name},
            "region": _region(label.span),
        }
    }
    return location | ({"message": {"text": label.text}} if label.text else {})


def _region(span: Span) -> dict[str, int]:
    place = _place(span)
    return {"startLine": place["line"], "startColumn": place["column"],
            "endLine": place["end_line"], "endColumn": place["end_column"]}  # fmt: skip


def _change(fix: Fix) -> dict[str, Any]:
    return {
        "artifactLocation": {"uri": fix.edits[0].span.source.name},
        "replacements": [
            {"deletedRegion": _region(edit.span), "insertedContent": {"text": edit.text}}
            for edit in fix.edits
        ],
    }


def to_github(diagnostics: Iterable[Diagnostic]) -> str:
    """Workflow commands that annotate the lines of a pull request."""
    return "".join(_annotation(entry) + "\n" for entry in diagnostics)


def _annotation(entry: Diagnostic) -> str:
    words = [entry.message]
    fields = {"title": f"{entry.code} {CODES[entry.code].title}"}
    if entry.primary is not None:
        place = _place(entry.primary.span)
        fields |= {"file": place["file"], "line": str(place["line"]),
                   "endLine": str(place["end_line"]), "col": str(place["column"]),
                   "endColumn": str(place["end_column"])}  # fmt: skip
        words.append(entry.primary.text)
    text = "\n".join([*words, *entry.notes, f"help: {entry.help}"])
    listed = ",".join(f"{key}={_escape(value, ':,')}" for key, value in fields.items())
    return f"::{entry.severity} {listed}::{_escape(text)}"


def _escape(text: str, more: str = "") -> str:
    for letter in "%\r\n" + more:
        text = text.replace(letter, f"%{ord(letter):02X}")
    return text
