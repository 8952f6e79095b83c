"""Spoilt texts: never a crash, a hang or an error that does not explain itself."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.front.syntax.corpus import FILES, PIECES, mutants, source
from wmdsl.diagnostics import CODES, Diagnostics
from wmdsl.diagnostics.render import to_text
from wmdsl.source import Source
from wmdsl.syntax import ast, parse

EVERYTHING = next(path for path in FILES if path.stem == "everything")
SLOWEST = 2.0


def diagnose(text: str) -> Diagnostics:
    found = Diagnostics()
    before = time.process_time()
    tree = parse(Source("mutant.wm", text), found)
    assert time.process_time() - before < SLOWEST
    assert isinstance(tree, ast.File)
    return found


def assert_labelled(found: Diagnostics) -> None:
    for entry in found:
        assert entry.code.startswith("WM0") and entry.code in CODES
        assert entry.message and entry.help and entry.primary is not None
        assert "{" not in entry.message.replace("`{`", "")
        span = entry.primary.span
        assert 0 <= span.start <= span.end <= len(span.source.text)
    assert (len(found) == 0) == (to_text(found) == "")


def test_one_wrong_token_is_explained_and_stays_one_mistake():
    texts = mutants(source(EVERYTHING).text, 300, seed=1)
    counts = []
    for text in texts:
        found = diagnose(text)
        assert_labelled(found)
        counts.append(len(found))
    assert max(counts) > 0
    assert sum(count <= 2 for count in counts) >= 0.98 * len(counts)


@pytest.mark.slow
def test_every_token_of_every_example_may_be_spoilt():
    for path in FILES:
        for text in mutants(source(path).text, 60, seed=2):
            assert_labelled(diagnose(text))


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
@example("\ufeff")
@example("model m {")
@example("}")
@example('"')
@example("model m { trunk t: dit { tokens f(((((")
def test_any_text_is_read(text):
    assert_labelled(diagnose(text))


@given(
    st.lists(
        st.sampled_from(PIECES + ("model", "m", "trunk", "attend", "query", "  ")), max_size=60
    )
)
@settings(max_examples=150, deadline=None)
def test_any_sequence_of_tokens_is_read(pieces):
    assert_labelled(diagnose("edition 2026\nmodel policy {\n  " + " ".join(pieces) + "\n}\n"))


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_several_wrong_tokens_are_read(seed, times):
    text = source(EVERYTHING).text
    for turn in range(times):
        (text,) = mutants(text, 1, seed + turn)
    assert_labelled(diagnose(text))


@pytest.mark.parametrize(
    "piece", ["(", "{", "[", "a.", "f(", "}", "x, ", "1..", "\n", "where q + ", "x;", "}{"]
)
def test_one_thing_repeated_is_read_in_time(piece):
    text = "model m {\n query q: " + piece * (60_000 // len(piece))
    before = time.process_time()
    found = Diagnostics()
    parse(Source("long.wm", text), found)
    assert time.process_time() - before < 5
    assert found.has_errors


def test_what_follows_a_mistake_is_still_read():
    found = Diagnostics()
    text = (
        "edition 2026\nmodel m {\n  straem a: video[3, 4, 4] at 5 Hz\n"
        "  codec eyes conv { channels 4 }\n  trunk seer: dit { layers 4; widht = 4; heads 4x32 }\n"
        "  query policy: a\n}\n"
    )
    tree = parse(Source("m.wm", text), found)
    (model,) = tree.models
    names = [(entry.form, entry.name.text, entry.damaged) for entry in model.entries]
    assert names == [("stream", "a", True), ("codec", "eyes", True), ("trunk", "seer", True),
                     ("query", "policy", False)]  # fmt: skip
    trunk = model.entries[2]
    assert [part.name.text for part in trunk.attributes] == ["layers", "widht", "heads"]


def test_skipped_text_remembers_the_names_in_it():
    tree = parse(Source("m.wm", "model m {\n  bogus eyes: conv\n}\n"), Diagnostics())
    (entry,) = tree.models[0].entries
    assert isinstance(entry, ast.ErrorEntry)
    assert entry.mentions("eyes") and not entry.mentions("eye")
