"""Each file in `mistakes` makes one mistake of the first hour and gets exactly that message."""

from pathlib import Path

import pytest

from tests.front.mistakes import expected, places
from wmdsl.check import check
from wmdsl.diagnostics import Diagnostics
from wmdsl.diagnostics.render import to_text
from wmdsl.plan import build_plan
from wmdsl.resolve import resolve
from wmdsl.source import Source
from wmdsl.syntax import parse

FILES = sorted((Path(__file__).parent / "mistakes").glob("*.wm"))


def diagnose(source: Source) -> Diagnostics:
    """All diagnostics of the front end."""
    diagnostics = Diagnostics()
    spec = resolve(parse(source, diagnostics), {}, diagnostics)
    model = check(spec, diagnostics) if spec else None
    if model is not None:
        build_plan(model, diagnostics)
    return diagnostics


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_mistake_gets_its_code_at_its_line_and_nothing_else(path, golden):
    found = diagnose(Source(path.name, path.read_text(encoding="utf-8")))
    assert places(found) == expected(path)
    if expected(path):
        golden(path.with_suffix(".txt"), to_text(found))
