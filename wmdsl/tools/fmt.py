"""`wmdsl fmt`: lays out specs in place."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from wmdsl.diagnostics import Diagnostics
from wmdsl.source import Source
from wmdsl.syntax import read_source
from wmdsl.syntax.format import format_source
from wmdsl.tools.common import expand, show

EXAMPLE = "wmdsl fmt --check --diff examples/paradigms"


def fmt(source: Source, diagnostics: Diagnostics) -> str | None:
    """The text in its layout; None where it has syntax errors."""
    return format_source(source, diagnostics)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="specs, or folders of specs")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on a change")
    parser.add_argument("--diff", action="store_true", help="write nothing; show the changes")


def run(options: argparse.Namespace) -> int:
    diagnostics = Diagnostics()
    changed = False
    for path in expand(options.files):
        source = read_source(path, diagnostics)
        text = fmt(source, diagnostics) if source is not None else None
        if source is None or text is None or not _differs(path, text):
            continue
        changed = True
        if options.diff:
            sys.stdout.writelines(_difference(source, text))
        elif options.check:
            print(f"{path} would change")
        else:
            _write(path, text)
            print(f"{path} formatted")
    show(diagnostics)
    return 1 if diagnostics.has_errors or (changed and options.check) else 0


def _differs(path: str, text: str) -> bool:
    with open(path, "rb") as stream:
        return stream.read() != text.encode("utf-8")


def _difference(source: Source, text: str) -> Iterator[str]:
    import difflib

    before, after = source.text.splitlines(True), text.splitlines(True)
    return difflib.unified_diff(before, after, source.name, f"{source.name} (formatted)")


def _write(path: str, text: str) -> None:
    """Atomically: a full disk leaves the old file."""
    import os
    import shutil

    real = os.path.realpath(path)
    fresh = f"{real}.{os.getpid()}.new"
    try:
        with open(fresh, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        shutil.copymode(real, fresh)
        os.replace(fresh, real)
    finally:
        if os.path.exists(fresh):
            os.remove(fresh)
