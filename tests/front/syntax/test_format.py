"""The formatter: one layout, nothing lost, nothing changed in meaning."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.front.syntax.corpus import FILES, mutants, source
from wmdsl.diagnostics import Diagnostics
from wmdsl.source import Source
from wmdsl.syntax import parse
from wmdsl.syntax.format import WIDTH, format_source

EVERYTHING = next(path for path in FILES if path.stem == "everything")
COMMENT = re.compile(r"//[^\n]*")


def formatted(text: str) -> str:
    result = format_source(Source("spec.wm", text), Diagnostics())
    assert result is not None
    return result


def tree(text: str):
    return parse(Source("spec.wm", text), Diagnostics())


def comments(text: str) -> list[str]:
    return sorted(comment.rstrip() for comment in COMMENT.findall(text))


def assert_formats(text: str) -> str:
    once = formatted(text)
    assert formatted(once) == once
    assert tree(once) == tree(text)
    assert comments(once) == comments(text)
    return once


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_example_stands_in_its_layout(path):
    text = source(path).text
    assert assert_formats(text) == text, f"run `wmdsl fmt {path}`"
    codes = [line.partition("//")[0].rstrip() for line in text.splitlines()]
    assert all(len(code) <= WIDTH for code in codes)


def disturbed(text: str, seed: int) -> str:
    """The same spec with other blanks, empty lines, line ends and comments."""
    draw = random.Random(seed)
    lines = []
    for line in text.splitlines():
        code, slashes, comment = line.partition("//")
        indent = draw.choice(["", " ", "\t", "      "])
        code = code.strip()
        if '"' not in code:
            code = re.sub(r" +", lambda _: draw.choice([" ", "  ", "\t"]), code)
        code = re.sub(r"; ", draw.choice(["; ", ";", " ;  "]), code)
        extra = draw.choice(["", "", "", "  // remark " + str(len(lines))])
        lines.append(indent + code + (f"  //{comment}" if slashes else extra))
        lines += draw.choice([[], [], [""], ["", "  // alone " + str(len(lines)), ""]])
    return draw.choice(["\n", "\r\n"]).join(lines)


@given(st.integers(0, 100_000))
@settings(max_examples=60, deadline=None)
def test_other_blanks_and_comments_give_the_same_spec(seed):
    text = disturbed(source(EVERYTHING).text, seed)
    once = assert_formats(text)
    assert "\t" not in once and "\r" not in once
    assert tree(once) == tree(source(EVERYTHING).text)


@given(st.integers(0, 100_000))
@settings(max_examples=60, deadline=None)
def test_what_is_still_correct_after_a_change_is_formatted(seed):
    (text,) = mutants(source(EVERYTHING).text, 1, seed)
    result = format_source(Source("mutant.wm", text), Diagnostics())
    if result is not None:
        assert_formats(text)


def test_a_spec_with_syntax_errors_is_left_alone():
    found = Diagnostics()
    assert format_source(Source("spec.wm", "model m {\n  straem a: language\n}\n"), found) is None
    assert [entry.code for entry in found] == ["WM010"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("model m{stream a:language}", "model m { stream a: language }\n"),
        (
            'model m {\nstream   a:video[ 3,4 ,5 ]at 20Hz{now 1 frame;key "a"}\n}',
            'model m {\n  stream a: video[3, 4, 5] at 20 Hz { now 1 frame; key "a" }\n}\n',
        ),
        (
            "model m {\n attend {\n a sees b\n longer, name sees c where q>=k,q-k<=-4\n }\n}",
            "model m {\n  attend {\n    a            sees b\n"
            "    longer, name sees c where q >= k, q - k <= -4\n  }\n}\n",
        ),
        (
            "model m {\n\n\n  trunk t: dit {\n\n  layers 4 // a\n  heads 4x32 // b\n\n  }\n\n}",
            "model m {\n  trunk t: dit {\n    layers 4    // a\n    heads 4x32  // b\n  }\n}\n",
        ),
        (
            "model m {\n  query q: a\n    then b\n\n    | c\n}",
            "model m {\n  query q: a then b | c\n}\n",
        ),
        ("model m {\n  codec c: conv {\n  }\n}", "model m {\n  codec c: conv {}\n}\n"),
    ],
)
def test_layout(before, after):
    assert formatted(before) == after


def test_a_long_list_goes_on_under_its_first_element():
    names = ", ".join(f"eyes(camera_number_{at}.now)" for at in range(6))
    text = formatted(f"model m {{\n  trunk t: dit {{\n    tokens {names}\n  }}\n}}\n")
    lines = text.splitlines()
    assert lines[2].startswith("    tokens eyes(camera_number_0.now),")
    assert lines[3].startswith("           eyes(") and len(lines[2]) <= WIDTH


def test_a_block_that_does_not_fit_is_opened():
    line = "codec c: conv { " + "; ".join(f"channels {at}, 64, 128" for at in range(6)) + " }"
    text = formatted(f"model m {{\n  {line}\n}}\n")
    assert text.splitlines()[1] == "  codec c: conv {"
    assert all(len(row) <= WIDTH for row in text.splitlines())
