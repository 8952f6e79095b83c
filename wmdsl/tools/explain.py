"""`wmdsl explain`: the page of a code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wmdsl.diagnostics import CODES, did_you_mean

EXAMPLE = "wmdsl explain WM105"
PAGES = Path(__file__).resolve().parent.parent / "diagnostics" / "explain"


def explain(code: str) -> str | None:
    """The page of a code as Markdown; None where there is no such code."""
    page = PAGES / f"{code.upper()}.md"
    return page.read_text(encoding="utf-8") if code.upper() in CODES else None


def arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("code", nargs="?", metavar="CODE", help="as WM105")
    what.add_argument("--list", action="store_true", help="all codes, one on a line")


def run(options: argparse.Namespace) -> int:
    if options.list:
        for code, row in CODES.items():
            print(f"{code}  {row.severity:<8}{row.title}: {row.meaning}")
        return 0
    page = explain(options.code)
    if page is None:
        near = did_you_mean(options.code.upper(), CODES)
        advice = f"did you mean {near}?" if near else "`wmdsl explain --list` shows all codes"
        print(f"error: there is no code {options.code}; {advice}", file=sys.stderr)
        return 2
    sys.stdout.write(page)
    return 0
