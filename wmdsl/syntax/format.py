"""The formatter: one layout for each spec, no options.

Two spaces for each level; blocks that were written on one line stay so where they fit; long lists
go on under their first element; `sees` and trailing comments of neighbouring lines stand in one
column; at most one empty line.  Comments keep their places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wmdsl.diagnostics import Diagnostics
from wmdsl.source import Source
from wmdsl.syntax.trivia import Block, Entry, Remark, Word, blocks

WIDTH = 100
STEP = 2
WIDEST_GAP = 16
_TIGHT_BEFORE = frozenset({",", ")", "]", ":", ".", ".."})
_TIGHT_AFTER = frozenset({"(", "[", ".", ".."})
_BREAK_BEFORE = frozenset({"|", "->", "then", "where"})


@dataclass(slots=True)
class Line:
    """A printed line; `sees` is where the keyword stands in the text of an attend row."""

    indent: int
    text: str
    comment: str = ""
    sees: int = -1

    @property
    def width(self) -> int:
        return self.indent + len(self.text)


def format_source(source: Source, diagnostics: Diagnostics) -> str | None:
    """The text of a source in its layout; None, and diagnostics, where it has syntax errors."""
    block = blocks(source, diagnostics)
    if block is None:
        return None
    lines = list(_entries(block, 0))
    _align_sees(lines)
    return "".join(f"{text}\n" for text in _with_comments(lines))


def _entries(block: Block, indent: int) -> Iterator[Line]:
    for group in _groups(block):
        first = group[0]
        if first.blank:
            yield Line(0, "")
        if isinstance(first, Remark):
            yield Line(indent, first.text)
        else:
            yield from _group([entry for entry in group if isinstance(entry, Entry)], indent)


def _groups(block: Block) -> list[list[Entry | Remark]]:
    """Entries that `;` joins on one line form a group."""
    groups: list[list[Entry | Remark]] = []
    for entry in block.entries:
        if isinstance(entry, Entry) and entry.joined and groups:
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups


def _group(entries: list[Entry], indent: int) -> Iterator[Line]:
    """Joined entries on one line where they fit, else each on its own."""
    if len(entries) > 1:
        texts = [_flat(entry) for entry in entries]
        line = "; ".join(text for text in texts if text is not None)
        if None not in texts and indent + len(line) <= WIDTH:
            yield Line(indent, line, entries[-1].comment)
            return
    for entry in entries:
        yield from _entry(entry, indent)


def _flat(entry: Entry) -> str | None:
    """The entry on one line, or None where a comment or a written line break forbids it."""
    if entry.commented:
        return None
    text = _spaced(entry.words)
    if entry.block is None:
        return text
    inside = _flat_block(entry.block)
    return None if inside is None else f"{text} {inside}"


def _flat_block(block: Block) -> str | None:
    if not block.flat or block.comment:
        return None
    texts = []
    for entry in block.entries:
        text = _flat(entry) if isinstance(entry, Entry) and not entry.comment else None
        if text is None:
            return None
        texts.append(text)
    return f"{{ {'; '.join(texts)} }}" if texts else "{}"


def _entry(entry: Entry, indent: int) -> Iterator[Line]:
    flat = _flat(entry)
    if flat is not None and indent + len(flat) <= WIDTH:
        yield Line(indent, flat, entry.comment, _sees(entry))
        return
    if flat is not None and any(word.kind in _BREAK_BEFORE for word in entry.words):
        lines = _wrapped(_with_block(entry), indent)
        if all(line.width <= WIDTH for line in lines):
            lines[-1].comment = entry.comment
            yield from lines
            return
    lines = _as_written(entry, indent) if entry.commented else _wrapped(entry.words, indent)
    if entry.block is None:
        lines[-1].comment = entry.comment or lines[-1].comment
        yield from lines
        return
    if not entry.block.entries and not entry.block.comment:
        lines[-1].text += " {}"
        lines[-1].comment = entry.comment
        yield from lines
        return
    lines[-1].text += " {"
    lines[-1].comment = entry.block.comment
    yield from lines
    yield from _entries(entry.block, indent + STEP)
    yield Line(indent, "}", entry.comment)


def _with_block(entry: Entry) -> list[Word]:
    """The words and the flat block, which stays behind the last of them."""
    inside = _flat_block(entry.block) if entry.block is not None else None
    if inside is None:
        return entry.words
    last = entry.words[-1]
    return [*entry.words[:-1], Word(last.kind, f"{last.text} {inside}", last.fresh)]


def _sees(entry: Entry) -> int:
    """Where `sees` stands in a row of an attend; an assertion says it too, but is no row."""
    if entry.block is not None or entry.words[0].kind == "assert":
        return -1
    at = next((at for at, word in enumerate(entry.words) if word.kind == "sees"), -1)
    return len(_spaced(entry.words[:at])) + 1 if at > 0 else -1


def _continuation(words: list[Word], indent: int) -> int:
    """Where later lines of an entry start: under the first value of an attribute."""
    if words[0].kind == "NAME" and len(words[0].text) <= 24 and not _is_row(words):
        return indent + len(words[0].text) + 1
    return indent + STEP


def _is_row(words: list[Word]) -> bool:
    return any(word.kind == "sees" for word in words)


def _as_written(entry: Entry, indent: int) -> list[Line]:
    """Lines stay as they were broken, because comments stand between them."""
    later = _continuation(entry.words, indent)
    lines: list[Line] = []
    row: list[Word] = []
    for at, word in enumerate(entry.words):
        if at and (word.fresh or word.above or entry.words[at - 1].comment):
            lines.append(_written_line(row, later if lines else indent))
            lines += (Line(later, text) for text in word.above)
            row = []
        row.append(word)
    lines.append(_written_line(row, later if lines else indent))
    return lines


def _written_line(row: list[Word], indent: int) -> Line:
    return Line(indent, _spaced(row), row[-1].comment)


def _wrapped(words: list[Word], indent: int) -> list[Line]:
    """Fill lines.  Breaks before `|`, `->`, `then`, `where` are taken first, then those after
    commas outside of brackets, then those inside."""
    later = _continuation(words, indent)
    pieces = _divided(words, commas=False)
    if not _fit(pieces, later):
        pieces = _split(_split(pieces, later, brackets=False), later, brackets=True)
    lines: list[Line] = []
    row: list[Word] = []
    for piece in pieces:
        at = later if lines else indent
        if row and at + len(_spaced(row + piece)) > WIDTH - 2:
            lines.append(Line(at, _spaced(row)))
            row = []
        row = row + piece
    lines.append(Line(later if lines else indent, _spaced(row)))
    return lines


def _fit(pieces: list[list[Word]], later: int) -> bool:
    return all(later + len(_spaced(piece)) <= WIDTH - 2 for piece in pieces)


def _split(pieces: list[list[Word]], later: int, *, brackets: bool) -> list[list[Word]]:
    """Divide after commas what is wider than a line."""
    found: list[list[Word]] = []
    for piece in pieces:
        found += [piece] if _fit([piece], later) else _divided(piece, brackets=brackets)
    return found


def _divided(words: list[Word], *, commas: bool = True, brackets: bool = False) -> list[list[Word]]:
    pieces: list[list[Word]] = [[]]
    depth = 0
    for word in words:
        if word.kind in _BREAK_BEFORE and depth == 0 and pieces[-1]:
            pieces.append([])
        depth += (word.kind in ("(", "[")) - (word.kind in (")", "]"))
        pieces[-1].append(word)
        if commas and word.kind == "," and (brackets or depth == 0):
            pieces.append([])
    return [piece for piece in pieces if piece]


def _spaced(words: list[Word]) -> str:
    text = ""
    for at, word in enumerate(words):
        before = words[at - 1] if at else None
        text += (" " if before is not None and _space(before, word) else "") + word.text
    return text


def _space(before: Word, word: Word) -> bool:
    if word.kind in _TIGHT_BEFORE or before.kind in _TIGHT_AFTER:
        return False
    if word.kind in ("(", "["):
        return before.kind not in ("NAME", ")", "]")
    return True


def _align_sees(lines: list[Line]) -> None:
    """Neighbouring rows put `sees` into one column where all of them still fit."""
    run: list[Line] = []
    for line in [*lines, Line(0, "")]:
        if line.sees >= 0 and (not run or run[-1].indent == line.indent):
            run.append(line)
            continue
        column = max((row.sees for row in run), default=0)
        if all(
            column - row.sees <= WIDEST_GAP and row.width + column - row.sees <= WIDTH
            for row in run
        ):
            for row in run:
                row.text = row.text[: row.sees - 1].ljust(column) + row.text[row.sees :]
        run = [line] if line.sees >= 0 else []


def _with_comments(lines: list[Line]) -> Iterator[str]:
    """Trailing comments of neighbouring lines stand in one column."""
    run: list[Line] = []
    for line in lines:
        if line.comment:
            run.append(line)
            continue
        yield from _commented(run)
        run = []
        yield f"{' ' * line.indent}{line.text}".rstrip()
    yield from _commented(run)


def _commented(run: list[Line]) -> Iterator[str]:
    column = max((line.width for line in run), default=0) + 2
    narrow = all(column - line.width - 2 <= WIDEST_GAP for line in run)
    fits = all(column + len(line.comment) <= WIDTH for line in run)
    for line in run:
        text = f"{' ' * line.indent}{line.text}"
        yield (text.ljust(column) if narrow and fits else f"{text}  ") + line.comment
