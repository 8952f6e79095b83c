"""What is generated from grammar and vocabulary is up to date, and its examples are read."""

import json
import re

import pytest

from wmdsl.diagnostics import CODES, Diagnostics
from wmdsl.source import Source
from wmdsl.syntax import parse
from wmdsl.syntax.format import format_source
from wmdsl.syntax.tables import GRAMMARS, tables
from wmdsl.tools import highlighting, reference
from wmdsl.vocabulary import FORMS

GRAMMAR = (GRAMMARS / "wm.lark").read_text(encoding="utf-8")


def test_the_manual_is_up_to_date():
    fresh = reference.reference(GRAMMAR)
    assert fresh == reference.TARGET.read_text(encoding="utf-8"), (
        "run `python -m wmdsl.tools.reference`"
    )


def test_the_manual_names_every_word():
    text = reference.reference(GRAMMAR)
    for form in FORMS.values():
        assert f"### {form.name}\n" in text
        for kind in (form.kinds or {}).values():
            assert f"`{kind.name}" in text
    assert all(code in text for code in CODES)


def test_the_highlighting_is_up_to_date():
    fresh = highlighting.text_of(tables())
    assert fresh == highlighting.TARGET.read_text(encoding="utf-8"), (
        "run `python -m wmdsl.tools.highlighting`"
    )


def test_every_keyword_and_unit_is_highlighted():
    rules = json.loads(highlighting.TARGET.read_text(encoding="utf-8"))["patterns"]
    patterns = "\n".join(rule["match"] for rule in rules)
    words = set(re.findall(r"[A-Za-z]+", patterns))
    assert tables().keywords <= words
    assert {"Hz", "frames?", "steps?"} <= set(re.findall(r"[A-Za-z]+\??", patterns))
    for rule in rules:
        re.compile(rule["match"].replace("(?<=^|[{;])", ""))


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.name)
def test_the_example_of_a_form_is_read_and_stands_in_its_layout(form):
    inside = "".join(f"  {line}\n" for line in form.example.splitlines())
    source = Source(f"{form.name}.wm", f"model example {{\n{inside}}}\n")
    found = Diagnostics()
    (model,) = parse(source, found).models
    assert [entry.message for entry in found] == []
    assert {entry.form for entry in model.entries} == {form.name}
    assert format_source(source, found) == source.text
