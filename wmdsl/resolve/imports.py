"""Files and what they import, read once each; cycles are reported where they close."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wmdsl.diagnostics import Diagnostics
from wmdsl.record import record
from wmdsl.resolve import errors
from wmdsl.source import Source, Span
from wmdsl.syntax import ast, parse, read_source

Importer = Callable[[Path, Diagnostics], Source | None]


@record
class Unit:
    """One file with its imports by alias.  A broken import stands as None."""

    file: ast.File
    imports: dict[str, Unit | None]

    @property
    def main(self) -> ast.Model | None:
        """The file's own model: the last one."""
        return self.file.models[-1] if self.file.models else None

    def model(self, name: str) -> ast.Model | None:
        return next((model for model in self.file.models if model.name.text == name), None)


class Library:
    """Reads units; `importer` gives the text of a path, so that tests and editors need no files."""

    def __init__(self, diagnostics: Diagnostics, importer: Importer) -> None:
        self.diagnostics, self.importer = diagnostics, importer
        self._units: dict[Path, Unit | None] = {}
        self._open: list[tuple[Path, Span | None]] = []

    def unit(self, file: ast.File) -> Unit:
        """The unit of a file that is parsed already."""
        source = file.span.source
        self._open.append((_absolute(Path(source.name)), None))
        unit = Unit(file, self._imports(file))
        self._open.pop()
        return unit

    def _imports(self, file: ast.File) -> dict[str, Unit | None]:
        found: dict[str, Unit | None] = {}
        seen: dict[str, ast.Import] = {}
        for entry in file.imports:
            earlier = seen.setdefault(entry.alias.text, entry)
            if earlier is not entry:
                self.diagnostics.add(errors.twice("import", entry.alias, earlier.alias))
                continue
            found[entry.alias.text] = self._load(entry)
        return found

    def _load(self, entry: ast.Import) -> Unit | None:
        folder = Path(entry.span.source.name).parent
        path = folder / entry.path.value
        key = _absolute(path)
        for at, (opened, _) in enumerate(self._open):
            if opened == key:
                others = [span for _, span in self._open[at + 1 :] if span is not None]
                self.diagnostics.add(errors.import_cycle(entry, others))
                return None
        if key not in self._units:
            self._open.append((key, entry.span))
            self._units[key] = self._read(path, entry)
            self._open.pop()
        return self._units[key]

    def _read(self, path: Path, entry: ast.Import) -> Unit | None:
        found = Diagnostics()
        source = self.importer(path, found)
        if source is None:
            for diagnostic in found:
                self.diagnostics.add(errors.bad_import(entry, diagnostic))
            return None
        file = parse(source, self.diagnostics)
        return Unit(file, self._imports(file))


def from_disk(path: Path, diagnostics: Diagnostics) -> Source | None:
    """The importer of every day."""
    return read_source(path, diagnostics)


def _absolute(path: Path) -> Path:
    return path.resolve()
