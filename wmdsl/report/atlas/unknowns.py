"""The sentences of a spec's comments that call something unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from wmdsl.diagnostics import Diagnostics
from wmdsl.source import Source
from wmdsl.syntax import parse, read_source
from wmdsl.syntax.tables import tables
from wmdsl.syntax.tokens import tokenize

SENTENCE_END = re.compile(r'(?<=\.)\s+(?=[A-Z"])')


def unknowns(file: Path) -> Iterator[str]:
    """Of the file and of all that it imports, each sentence once."""
    said = (
        sentence
        for source in _sources(file, set())
        for paragraph in _paragraphs(source.text)
        for sentence in SENTENCE_END.split(paragraph)
        if "unknown" in sentence.casefold()
    )
    return iter(dict.fromkeys(said))


def _sources(file: Path, seen: set[Path]) -> Iterator[Source]:
    """The file, then its imports; one that cannot be read is an error of the spec, told there."""
    if file.resolve() in seen:
        return
    seen.add(file.resolve())
    diagnostics = Diagnostics()
    source = read_source(file, diagnostics)
    if source is not None:
        yield source
        for entry in parse(source, diagnostics).imports:
            yield from _sources(file.parent / entry.path.value, seen)


def _paragraphs(text: str) -> Iterator[str]:
    """Comments on lines that follow each other make one; a comment behind code stands alone."""
    gathered: list[str] = []
    last = -1
    for line, comment, alone in _comments(text):
        if gathered and not (alone and line == last + 1):
            yield " ".join(gathered)
            gathered = []
        gathered.append(comment)
        last = line if alone else -1
    if gathered:
        yield " ".join(gathered)


def _comments(text: str) -> Iterable[tuple[int, str, bool]]:
    """(line from 0, text, whether it has its line to itself)."""
    for token in tokenize(text, tables()):
        if token.kind == "COMMENT":
            before = text[text.rfind("\n", 0, token.start) + 1 : token.start]
            line = text.count("\n", 0, token.start)
            yield line, token.text.lstrip("/").strip(), not before.strip()
