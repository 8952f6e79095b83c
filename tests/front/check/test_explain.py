"""The pages of the checker's codes: the bad example gets exactly that code, the good one none."""

import re
from pathlib import Path

import pytest

import wmdsl.diagnostics
from wmdsl.check import check
from wmdsl.check.dataset import check_data
from wmdsl.data.lerobot import DatasetInfo
from wmdsl.diagnostics import CODES, Diagnostics
from wmdsl.plan import build_plan
from wmdsl.resolve import resolve
from wmdsl.source import Source
from wmdsl.syntax import parse

PAGES = Path(wmdsl.diagnostics.__file__).parent / "explain"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Codes of the checker; syntax and names lie before, faults of data and machines at 850 and above.
OWN = [code for code in CODES if code >= "WM120" and not "WM811" <= code <= "WM909"]


def codes_of(text: str, data: DatasetInfo | None) -> set[str]:
    """Codes of all diagnostics, and of what has no runtime yet."""
    diagnostics = Diagnostics()
    spec = resolve(parse(Source("page.wm", text), diagnostics), {}, diagnostics)
    model = check(spec, diagnostics)
    missing: set[str] = set()
    if model is not None:
        build_plan(model, diagnostics)
        missing = {entry.code for entry in model.unrunnable}
        if data is not None:
            check_data(model, data, diagnostics)
    return {entry.code for entry in diagnostics} | missing


@pytest.mark.parametrize("code", OWN)
def test_the_examples_of_a_page(code, tmp_path):
    page = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    fences = FENCE.findall(page)
    data = None
    for language, text in fences:
        if language == "json":
            (tmp_path / "meta").mkdir()
            (tmp_path / "meta" / "info.json").write_text(text, encoding="utf-8")
            data = DatasetInfo.read(tmp_path)
    bad, good = (text for language, text in fences if language == "wm")
    assert page.startswith(f"# {code}: {CODES[code].title}\n")
    found = codes_of(bad, data)
    assert found == {code} or (code in found and has_no_runtime(found - {code}))
    assert has_no_runtime(codes_of(good, data))
    assert code not in codes_of(good, data)


def has_no_runtime(codes: set[str]) -> bool:
    """Pretrained codecs in an example cannot run yet; that is no mistake of it."""
    return codes <= {"WM802", "WM807"}
