"""Correct texts that the tests of the front end read, and ways to spoil them."""

import random
from pathlib import Path

from wmdsl.source import Source
from wmdsl.syntax.tables import tables
from wmdsl.syntax.tokens import tokenize

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(
    [*ROOT.glob("examples/**/*.wm"), *Path(__file__).parent.glob("corpus/*.wm")],
    key=lambda path: path.as_posix(),
)
PIECES = ("{", "}", "(", ")", "[", "]", ",", ";", ":", "|", "->", "=", "..", ".", "<=", "+", "-",
          "*", "5", "4x4", '"t"', "name", "stream", "sees", "at", "by", "5 Hz", "\n", "#", '"',
          "'", "3d", "é", "\t", "\r", "//", "1e999", "else")  # fmt: skip


def source(path: Path) -> Source:
    return Source(path.name, path.read_text(encoding="utf-8"))


def mutants(text: str, count: int, seed: int) -> list[str]:
    """Texts with one token removed, replaced, or one put before it."""
    draw = random.Random(seed)
    tokens = [token for token in tokenize(text, tables()) if token.text.strip()]
    found = []
    for _ in range(count):
        token, piece = draw.choice(tokens), draw.choice(PIECES)
        kind = draw.choice(("remove", "replace", "insert"))
        end = token.start if kind == "insert" else token.end
        middle = "" if kind == "remove" else f" {piece} "
        found.append(text[: token.start] + middle + text[end:])
    return found
