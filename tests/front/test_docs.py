"""Every spec in the documentation is correct and stands in its layout."""

import re
from pathlib import Path

import pytest

from wmdsl.diagnostics import Diagnostics
from wmdsl.source import Source
from wmdsl.syntax.format import format_source
from wmdsl.tools.check import check

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCE = re.compile(r"^```wm\n(edition .*?)^```", re.MULTILINE | re.DOTALL)
SPECS = [
    pytest.param(text, id=f"{path.stem}-{number}")
    for path in sorted(DOCS.glob("*.md"))
    for number, text in enumerate(FENCE.findall(path.read_text(encoding="utf-8")))
]


def test_the_guide_holds_specs():
    assert len(SPECS) >= 4


@pytest.mark.parametrize("text", SPECS)
def test_a_spec_of_the_documentation(text, tmp_path):
    path = tmp_path / "spec.wm"
    path.write_text(text, encoding="utf-8")
    assert [entry.message for entry in check([str(path)], {})] == []
    assert format_source(Source("spec.wm", text), Diagnostics()) == text
