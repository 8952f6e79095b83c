"""Damaged specs: the checker never raises, and every message says where and what to do."""

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as draw

from wmdsl.check import check
from wmdsl.diagnostics import Diagnostics
from wmdsl.plan import build_plan
from wmdsl.resolve import resolve
from wmdsl.source import Source
from wmdsl.syntax import parse

EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = sorted([*EXAMPLES.glob("atlas/*.wm"), *EXAMPLES.glob("paradigms/*.wm")])
TEXTS = [(path, path.read_text(encoding="utf-8")) for path in FILES]
WORD = re.compile(r"//[^\n]*|\"[^\"\n]*\"|\w+(?:\.\w+)*|->|[^\s\w]")
STRANGERS = ("0", "-1", "7", "camera", "action", "nothing", "8 frames", "0.5 s", "3 Hz", "all",
             "a[0..2]", "flow", "dit", "q", "2x3", '"text"', ";", ",", "}")  # fmt: skip


@draw.composite
def damaged(drawn) -> tuple[Path, str]:
    """An example in which a word is lost, doubled, or replaced by another one."""
    path, text = drawn(draw.sampled_from(TEXTS))
    words = [match for match in WORD.finditer(text) if not match.group().startswith("//")]
    word = drawn(draw.sampled_from(words))
    other = drawn(
        draw.sampled_from([match.group() for match in words]) | draw.sampled_from(STRANGERS)
    )
    new = drawn(draw.sampled_from(["", other, f"{word.group()} {other}"]))
    return path, text[: word.start()] + new + text[word.end() :]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(damaged())
def test_a_damaged_spec_is_diagnosed(spec):
    path, text = spec
    diagnostics = Diagnostics()
    closed = resolve(parse(Source(str(path), text), diagnostics), {}, diagnostics)
    model = check(closed, diagnostics) if closed else None
    if model is not None:
        build_plan(model, diagnostics)
    assert model is not None or diagnostics.has_errors
    for entry in diagnostics:
        assert entry.labels and entry.message
        assert entry.help or entry.code < "WM120"
