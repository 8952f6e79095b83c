"""Tokens and comments -> blocks of entries, the shape that the formatter prints.

Nothing of the text is lost here but blanks: every token and every comment has one place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wmdsl.diagnostics import Diagnostics
from wmdsl.source import Source
from wmdsl.syntax.parse import lex
from wmdsl.syntax.tables import tables
from wmdsl.syntax.tokens import END, Token, tokenize


@dataclass(slots=True)
class Remark:
    """A comment on a line of its own; `blank` says that an empty line stands before it."""

    text: str
    blank: bool


@dataclass(slots=True)
class Word:
    """A token of an entry.  `comment` follows it on its line, inside of the entry.

    `fresh`: it stood first on its line.
    """

    kind: str
    text: str
    fresh: bool
    comment: str = ""
    above: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """Words and at most one block; `joined` by `;` to the entry before, on one line with it."""

    blank: bool
    joined: bool
    words: list[Word] = field(default_factory=list)
    block: Block | None = None
    comment: str = ""

    @property
    def commented(self) -> bool:
        """Whether a comment stands between its words, so that its lines must stay as they are."""
        return any(word.comment or word.above for word in self.words)


@dataclass(slots=True)
class Block:
    """What stands in braces, or the whole file.  `flat`: it was written on one line."""

    entries: list[Entry | Remark] = field(default_factory=list)
    comment: str = ""
    flat: bool = True


def blocks(source: Source, diagnostics: Diagnostics) -> Block | None:
    """The file as a block; None where it has syntax errors."""
    taken = lex(source, diagnostics)
    if taken is None:
        return None
    comments = [
        ("COMMENT", token) for token in tokenize(source.text, tables()) if token.kind == "COMMENT"
    ]
    elements = sorted([*taken, *comments], key=lambda element: element[1].start)
    return _Blocks(source, elements).file()


class _Blocks:
    """One walk over tokens and comments in the order of the text."""

    def __init__(self, source: Source, elements: list[tuple[str, Token]]) -> None:
        self.source, self.elements = source, elements
        self.at = 0
        self.line = 1
        self.above: list[str] = []

    def file(self) -> Block:
        block, _ = self._block(END)
        return block

    def _block(self, closer: str) -> tuple[Block, int]:
        """Read up to the closer, which is passed over; also the line on which it stands."""
        block = Block()
        first_line = self.line
        entry: Entry | None = None
        joined = False
        while True:
            kind, token = self.elements[self.at]
            self.at += 1
            line = self.source.position(token.start)[0]
            blank = line > self.line + 1 and bool(block.entries)
            fresh = line > self.line
            if kind == closer:
                block.flat = line == first_line
                return block, line
            if kind == "_SEP":
                joined = token.text == ";" and entry is not None
                entry = None
                self._pass(token, line)
                continue
            if kind == "COMMENT":
                self._comment(token, block, entry, line, blank)
                self._pass(token, line)
                continue
            if kind == "{" and entry is not None:
                self._pass(token, line)
                entry.block, line = self._block("}")
                self.line = line
                continue
            if entry is None:
                entry = Entry(blank, joined and not fresh)
                block.entries.append(entry)
                joined = False
            entry.words.append(Word(kind, token.text, fresh, above=self.above))
            self.above = []
            self._pass(token, line)

    def _pass(self, token: Token, line: int) -> None:
        if token.kind not in ("NEWLINE", END):
            self.line = line

    def _comment(
        self, token: Token, block: Block, entry: Entry | None, line: int, blank: bool
    ) -> None:
        text = token.text.rstrip()
        beside = line == self.line and (self.at > 1)
        last = block.entries[-1] if block.entries else None
        if entry is not None and not self._ends():
            if beside:
                entry.words[-1].comment = text
            else:
                self.above.append(text)
        elif beside and isinstance(last, Entry):
            last.comment = text
        elif beside and not block.entries and not block.comment:
            block.comment = text
        else:
            block.entries.append(Remark(text, blank))

    def _ends(self) -> bool:
        """Whether what follows the comment ends the entry."""
        return self.elements[self.at][0] in ("_SEP", "}", END)
