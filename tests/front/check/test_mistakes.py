"""Each file in `mistakes` makes one mistake of the first hour.  Its last line names the code and
the line; the report that the user reads stands beside it."""

import re
from pathlib import Path

import pytest

from wmdsl.check import check
from wmdsl.diagnostics import Diagnostics
from wmdsl.diagnostics.render import to_text
from wmdsl.plan import build_plan
from wmdsl.resolve import resolve
from wmdsl.source import Source
from wmdsl.syntax import parse

FILES = sorted((Path(__file__).parent / "mistakes").glob("*.wm"))
EXPECTED = re.compile(r"// expect: (WM\d{3}) @ (\d+)")


def diagnose(path: Path) -> Diagnostics:
    """All diagnostics of the front end; the file is named without its folder."""
    source = Source(path.name, path.read_text(encoding="utf-8"))
    diagnostics = Diagnostics()
    spec = resolve(parse(source, diagnostics), {}, diagnostics)
    model = check(spec, diagnostics) if spec else None
    if model is not None:
        build_plan(model, diagnostics)
    return diagnostics


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_mistake_gets_its_code_at_its_line_and_nothing_else(path, golden):
    found = diagnose(path)
    places = [(entry.code, entry.primary.span.line) for entry in found]
    expected = EXPECTED.findall(path.read_text(encoding="utf-8"))
    assert places == [(code, int(line)) for code, line in expected]
    if expected:
        golden(path.with_suffix(".txt"), to_text(found))
