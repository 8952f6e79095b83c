"""Specs with exchanged names and numbers pass through the front end: a report, never a crash."""

import random
import time

import pytest

from tests.front.syntax.corpus import FILES
from wmdsl import driver
from wmdsl.diagnostics import Diagnostics
from wmdsl.diagnostics.render import to_text
from wmdsl.source import Source
from wmdsl.syntax.tables import tables
from wmdsl.syntax.tokens import tokenize

PARADIGMS = [path for path in FILES if path.parent.name in ("paradigms", "hybrids")]
EXAMPLES = [path for path in FILES if "examples" in path.parts]
STRANGE = ("0", "-1", "1000000", "1x1", "3x7", "nothing", "all", "0.1 s", "4 frames", "16 steps",
           "dit", "flow", "learned[4]", "tap(seer, 2)", "future", "camera.now[2]")  # fmt: skip
SLOWEST = 20.0


def exchanged(text: str, draw: random.Random) -> str:
    """One name, number or size becomes another of the text, or something strange."""
    tokens = [t for t in tokenize(text, tables()) if t.kind in ("NAME", "NUMBER", "DIMS")]
    token = draw.choice(tokens)
    alike = [other.text for other in tokens if other.kind == token.kind]
    other = draw.choice(alike) if draw.random() < 0.7 else draw.choice(STRANGE)
    return text[: token.start] + other + text[token.end :]


def assert_reported(path, seed: int) -> int:
    draw = random.Random(seed)
    text = path.read_text(encoding="utf-8")
    for _ in range(draw.randint(1, 3)):
        text = exchanged(text, draw)
    found = Diagnostics()
    before = time.process_time()
    driver.run(Source(str(path), text), driver.Options(), found)
    assert time.process_time() - before < SLOWEST, text
    assert all(entry.message and entry.labels for entry in found)
    assert bool(to_text(found)) == bool(len(found))
    return len(found)


@pytest.mark.parametrize("path", PARADIGMS, ids=lambda path: path.stem)
def test_exchanged_words_of_a_paradigm(path):
    counts = [assert_reported(path, seed) for seed in range(12)]
    assert max(counts) > 0


@pytest.mark.slow
def test_exchanged_words_of_every_example():
    counts = [assert_reported(path, seed) for path in EXAMPLES for seed in range(12)]
    assert max(counts) > 0
