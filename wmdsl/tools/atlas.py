"""`wmdsl atlas`: one table over a folder of specs, beside what others say of the systems."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wmdsl.report.atlas import Entry, Facts, collect, table_of, to_html, to_text

EXAMPLE = "wmdsl atlas examples/atlas --format html -o atlas.html"
FOLDER = Path("examples/atlas")
FORMATS = ("text", "json", "html")


def atlas(folder: Path, form: str = "text", progress: bool = False) -> tuple[dict[str, Any], str]:
    """The table over the specs of a folder, and the same written as text, json or html.

    Raises FileNotFoundError where the folder holds no spec.
    """
    entries = collect(folder, progress)
    if not entries:
        raise FileNotFoundError(2, "there is no spec in this folder", str(folder))
    table = table_of(entries, Facts.shipped())
    return table, _written(table, entries, form)


def _written(table: dict[str, Any], entries: Sequence[Entry], form: str) -> str:
    match form:
        case "json":
            return json.dumps(table, indent=1, ensure_ascii=False) + "\n"
        case "html":
            return to_html(table, entries)
    return to_text(table)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, metavar="FOLDER",
                        help=f"a folder of specs; {FOLDER.as_posix()} if absent")  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, default="text", help="text is the default")
    parser.add_argument("-o", dest="output", type=Path, metavar="OUT",
                        help="a file; the terminal if absent")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    table, text = atlas(options.folder, options.format, progress=True)
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text, encoding="utf-8")
        print(f"wrote {options.output}")
    return 1 if table["summary"]["with_errors"] else 0
