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


@dataclass(slots=True)
class _Open:
    """A block that is being read: its present entry, and whether `;` stood before the next."""

    block: Block
    entry: Entry | None = None
    joined: bool = False


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
        here = _Open(Block())
        first_line = self.line
        while True:
            kind, token = self.elements[self.at]
            self.at += 1
            line = self.source.position(token.start)[0]
            if kind == closer:
                here.block.flat = line == first_line
                return here.block, line
            self._element(here, kind, token, line)

    def _element(self, here: _Open, kind: str, token: Token, line: int) -> None:
        match kind:
            case "_SEP":
                here.joined = token.text == ";" and here.entry is not None
                here.entry = None
            case "COMMENT":
                self._comment(here, token.text.rstrip(), line)
            case "{" if here.entry is not None:
                self.line = line
                here.entry.block, line = self._block("}")
            case _:
                self._word(here, kind, token, line)
        if token.kind != "NEWLINE":
            self.line = line

    def _word(self, here: _Open, kind: str, token: Token, line: int) -> None:
        fresh = line > self.line
        if here.entry is None:
            here.entry = Entry(self._blank(here, line), here.joined and not fresh)
            here.block.entries.append(here.entry)
            here.joined = False
        here.entry.words.append(Word(kind, token.text, fresh, above=self.above))
        self.above = []

    def _blank(self, here: _Open, line: int) -> bool:
        return line > self.line + 1 and bool(here.block.entries)

    def _comment(self, here: _Open, text: str, line: int) -> None:
        """Give a comment its place: inside of an entry, behind one, behind `{`, or alone."""
        block, entry = here.block, here.entry
        beside = line == self.line and self.at > 1
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
            block.entries.append(Remark(text, self._blank(here, line)))

    def _ends(self) -> bool:
        """Whether what follows the comment ends the entry."""
        return self.elements[self.at][0] in ("_SEP", "}", END)
