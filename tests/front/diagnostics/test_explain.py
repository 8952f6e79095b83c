"""Every code has a page; the pages about texts and names get exactly their code, and no other."""

import re
from pathlib import Path

import pytest

import wmdsl.diagnostics
from wmdsl.check import check
from wmdsl.diagnostics import CODES, Diagnostics, codes
from wmdsl.diagnostics.problem import Problem
from wmdsl.plan import build_plan
from wmdsl.resolve import resolve
from wmdsl.source import Source
from wmdsl.syntax import parse

PAGES = Path(wmdsl.diagnostics.__file__).parent / "explain"
FENCE = re.compile(r"^```wm\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILES = ("WM001", "WM002", "WM003", "WM004")
REPEATED = {"WM020": ["WM011", "WM020"]}  # too many errors need errors
OUTSIDE = [code for code in CODES if "WM850" < code < "WM900"]
OWN = [code for code in CODES if code < "WM120" or code in ("WM901", "WM902")]


def page_of(code: str) -> str:
    return (PAGES / f"{code}.md").read_text(encoding="utf-8")


def codes_of(name: str, text: str, library: str) -> list[str]:
    """Codes of the whole front end, for every model of the text."""
    diagnostics = Diagnostics()
    source = Source(name, text)

    def importer(path: Path, found: Diagnostics) -> Source | None:
        if path.name == "policy.wm":
            return Source("policy.wm", library)
        found.add(wmdsl.syntax.errors.unreadable(path.name, "No such file or directory"))
        return None

    file = parse(source, diagnostics)
    for model in file.models:
        spec = resolve(file, {}, diagnostics, model=model.name.text, importer=importer)
        typed = check(spec, diagnostics)
        if typed is not None:
            build_plan(typed, diagnostics)
    return sorted({entry.code for entry in diagnostics})


def test_codes_and_pages_belong_together():
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted(CODES)
    assert list(CODES) == sorted(CODES)
    assert len(CODES) == len(codes._ROWS), "two rows with one code"


@pytest.mark.parametrize("code", CODES)
def test_a_page_starts_with_its_title(code):
    assert page_of(code).startswith(f"# {code}: {CODES[code].title}\n\n")
    assert CODES[code].meaning.endswith(".") and CODES[code].severity in ("error", "warning")


@pytest.mark.parametrize("code", [code for code in OWN if code not in FILES])
def test_the_examples_of_a_page(code):
    bad, good = FENCE.findall(page_of(code))
    library = FENCE.findall(page_of("WM010"))[1]
    assert codes_of(f"{code}.wm", bad, library) == REPEATED.get(code, [code])
    assert codes_of(f"{code}.wm", good, library) == []


@pytest.mark.parametrize("code", OUTSIDE)
def test_a_page_about_the_world_outside_says_what_to_do(code):
    page = page_of(code)
    assert page.index("## When") < page.index("## What to do")


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_used(code):
    package = PAGES.parent.parent
    texts = (path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    grammar = package.parent / "grammars" / "messages.toml"
    uses = sum(text.count(f'"{code}"') for text in texts)
    uses += grammar.read_text(encoding="utf-8").count(f'"{code}"')
    assert uses >= 2, f"{code} is in the table, but nothing reports it"


def test_a_code_that_is_not_in_the_table_is_refused():
    with pytest.raises(ValueError, match="WM999"):
        wmdsl.diagnostics.Diagnostic("WM999", "what", ())
    with pytest.raises(ValueError, match="WM999"):
        Problem("WM999", "what", "where", "help")
