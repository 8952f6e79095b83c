"""Specs that make one kind of mistake: their last lines name codes and lines that are expected."""

import re
from pathlib import Path

from wmdsl.diagnostics import Diagnostics
from wmdsl.resolve import resolve
from wmdsl.source import Source
from wmdsl.syntax import parse, read_source

EXPECTED = re.compile(r"// expect: (WM\d{3}) @ (\d+)")


def resolved(path: Path, parameters: dict[str, object] | None = None) -> Diagnostics:
    """Diagnostics of parsing and resolving; files are named without their folder."""
    diagnostics = Diagnostics()
    source = Source(path.name, path.read_bytes().decode("utf-8"))

    def importer(relative: Path, found: Diagnostics) -> Source | None:
        read = read_source(path.parent / relative, found)
        return read and Source(str(relative), read.text)

    resolve(parse(source, diagnostics), parameters or {}, diagnostics, importer=importer)
    return diagnostics


def expected(path: Path) -> list[tuple[str, int]]:
    """Codes and lines that the file itself announces."""
    found = EXPECTED.findall(path.read_text(encoding="utf-8"))
    return [(code, int(line)) for code, line in found]


def places(diagnostics: Diagnostics) -> list[tuple[str, int]]:
    return [(entry.code, entry.primary.span.line) for entry in diagnostics]
