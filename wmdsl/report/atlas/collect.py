"""A folder of specs -> their plans, or why there is none, and what their comments leave open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wmdsl import driver
from wmdsl.diagnostics import Diagnostic, Diagnostics
from wmdsl.plan.nodes import Plan
from wmdsl.plan.refusals import at
from wmdsl.progress import Progress
from wmdsl.report.atlas.unknowns import unknowns
from wmdsl.syntax import read_source


@dataclass(frozen=True, slots=True)
class Entry:
    """One spec: `slug` is its file's name; without a plan, `errors` say why."""

    slug: str
    plan: Plan | None
    errors: tuple[str, ...]
    unknowns: tuple[str, ...]


def collect(folder: Path, progress: bool = False) -> tuple[Entry, ...]:
    """Every spec of the folder itself by name; what stands in folders inside of it is a library."""
    files = sorted(folder.glob("*.wm"))
    with Progress(progress, "atlas", len(files)) as bar:
        return tuple(_advancing(files, bar))


def _advancing(files: list[Path], bar: Progress) -> Iterator[Entry]:
    for file in files:
        yield entry_of(file)
        bar.advance()


def entry_of(file: Path) -> Entry:
    """The entry of one spec; a spec with errors has one as well."""
    diagnostics = Diagnostics()
    source = read_source(file, diagnostics)
    plan = driver.run(source, driver.Options(), diagnostics) if source is not None else None
    errors = tuple(_error(entry) for entry in diagnostics if entry.severity == "error")
    return Entry(file.stem, None if errors else plan, errors, tuple(unknowns(file)))


def _error(entry: Diagnostic) -> str:
    """`WM202 uva.wm:3: there is no ...`; without a place where no file could be read."""
    place = f" {at(entry.primary.span)}" if entry.primary else ""
    return f"{entry.code}{place}: {entry.message}"
