"""Reports for people and for programs."""

import json

import pytest

from wmdsl.diagnostics import Diagnostic, Diagnostics, Edit, Fix, Label, did_you_mean
from wmdsl.diagnostics.export import to_github, to_json, to_sarif
from wmdsl.diagnostics.render import WIDEST, count, to_text
from wmdsl.source import Source, Span

TEXT = "model a {\n\tcodec eyes: conv\n  codec eyes: patch\n}\n"
FIRST = Source("a.wm", TEXT)
OTHER = Source("lib/b.wm", "edition 2026\n")


def span(source: Source, word: str, after: int = 0) -> Span:
    start = source.text.index(word, after)
    return Span(source, start, start + len(word))


CONFLICT = Diagnostic(
    "WM105", "codec `eyes` is declared twice",
    (Label(span(FIRST, "eyes", 20), "declared again here"),
     Label(span(FIRST, "eyes"), "declared first here", primary=False),
     Label(span(OTHER, "2026"), "of this edition", primary=False)),
    notes=("a note",), help="write `override codec eyes`",
    fixes=(Fix(False, (Edit(span(FIRST, "codec", 20), "override codec"),)),),
)  # fmt: skip
LINT = Diagnostic("WM902", "import `b` is never used", (Label(span(OTHER, "edition")),), help="x")


def test_a_report_shows_both_sides_of_a_conflict(golden, request):
    text = to_text([CONFLICT, LINT])
    golden(request.path.parent / "goldens" / "conflict.txt", text)
    assert "\x1b" not in text


def test_colour_only_adds_escapes():
    import re

    painted = to_text([CONFLICT], colour=True)
    assert "\x1b[1;31m" in painted
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == to_text([CONFLICT])


def test_no_diagnostics_are_no_text():
    assert to_text([]) == "" and count([]) == "no errors"
    assert count([CONFLICT, CONFLICT, LINT]) == "2 errors and 1 warning"


def test_a_long_line_is_cut_around_its_label():
    source = Source("long.wm", "x" * 300 + " here " + "y" * 300)
    entry = Diagnostic("WM012", "m", (Label(span(source, "here"), "this"),), help="h")
    lines = to_text([entry]).splitlines()
    assert max(map(len, lines)) <= WIDEST + 10
    marked, marks = next((a, b) for a, b in zip(lines, lines[1:], strict=False) if "^" in b)
    assert marked[marks.index("^") :].startswith("here")


def test_a_long_help_is_wrapped():
    entry = Diagnostic(
        "WM012",
        "m",
        (
            Label(
                span(FIRST, "eyes"),
            ),
        ),
        help="word " * 60,
    )
    assert max(map(len, to_text([entry]).splitlines())) <= WIDEST


def test_json_is_the_contract():
    (entry,) = json.loads(to_json([CONFLICT]))["diagnostics"]
    assert json.loads(to_json([]))["format_version"] == 1
    assert entry["code"] == "WM105" and entry["severity"] == "error"
    assert entry["labels"][0] == {
        "file": "a.wm", "line": 3, "column": 9, "end_line": 3, "end_column": 13,
        "text": "declared again here", "primary": True,
    }  # fmt: skip
    assert [label["primary"] for label in entry["labels"]] == [True, False, False]
    assert entry["fixes"][0]["edits"][0]["text"] == "override codec"
    assert set(entry) == {"code", "severity", "message", "labels", "notes", "help", "fixes"}


def test_sarif_names_rules_and_places():
    log = json.loads(to_sarif([CONFLICT, LINT], "0.1"))
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["WM105", "WM902"]
    first, second = run["results"]
    assert first["level"] == "error" and second["level"] == "warning"
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a.wm" and place["region"]["startLine"] == 3
    assert len(first["relatedLocations"]) == 2


def test_github_annotations_escape_what_would_end_them():
    source = Source("a,b:c.wm", "x")
    entry = Diagnostic("WM012", "100 %\nbad", (Label(Span(source, 0, 1), "l"),), help="h")
    (line,) = to_github([entry]).splitlines()
    assert line.startswith("::error title=WM012 malformed value,file=a%2Cb%3Ac.wm,line=1,")
    assert line.endswith("::100 %25%0Abad%0Al%0Ahelp: h")


def test_the_bag_sorts_and_keeps_one_of_equals():
    bag = Diagnostics()
    bag.extend([LINT, CONFLICT, CONFLICT])
    assert [entry.code for entry in bag] == ["WM105", "WM902"]
    assert len(bag) == 2 and bag.has_errors
    lints = Diagnostics()
    lints.add(LINT)
    assert not lints.has_errors


@pytest.mark.parametrize(
    ("word", "meant"),
    [("straem", "stream"), ("Stream", "stream"), ("steam", "stream"), ("sream", "stream"),
     ("strema", "stream"), ("xyz", None), ("", None), ("s", None)],
)  # fmt: skip
def test_did_you_mean(word, meant):
    assert did_you_mean(word, ["stream", "codec", "trunk"]) == meant
    assert did_you_mean(word, []) is None
