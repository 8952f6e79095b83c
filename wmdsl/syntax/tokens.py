"""Text -> tokens, comments and line breaks included; keywords are words until the parser asks."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from wmdsl.syntax.tables import Tables

END = "$END"


class Token(NamedTuple):
    """`kind` is a terminal of the grammar, a sign, or one of the kinds that no rule accepts."""

    kind: str
    text: str
    start: int
    end: int


def tokenize(text: str, tables: Tables) -> list[Token]:
    """All tokens but blanks; the last one is the end of the file."""
    found = [
        Token(match.lastgroup or "", match.group(), match.start(), match.end())
        for match in _pattern(tables).finditer(text)
        if match.lastgroup != "BLANK"
    ]
    tokens = [_named(token) for token in found]
    tokens.append(Token(END, "", len(text), len(text)))
    return tokens


def _named(token: Token) -> Token:
    return token._replace(kind="_SEP" if token.text == ";" else token.text) if (
        token.kind == "SIGN"
    ) else token  # fmt: skip


@lru_cache(maxsize=2)
def _pattern_of(patterns: tuple[tuple[str, str], ...], signs: tuple[str, ...]) -> re.Pattern[str]:
    order = ("COMMENT", "NEWLINE", "STRING", "DIMS", "NUMBER", "NAME", "COMPARE")
    table = dict(patterns)
    parts = [rf"(?P<{name}>{table[name]})" for name in order if name != "COMPARE"]
    literal = "|".join(re.escape(sign) for sign in sorted(signs, key=lambda sign: -len(sign)))
    parts += [
        r"(?P<BLANK>[ \t\f\r\ufeff]+)",
        r'(?P<OPEN_TEXT>"[^"\n]*?(?=[ \t\r;)\]{}]*(?:\n|\Z)))',
        rf"(?P<COMPARE>{table['COMPARE']})",
        rf"(?P<SIGN>{literal}|;)",
        r"(?P<UNKNOWN>.)",
    ]
    return re.compile("|".join(parts), re.DOTALL)


def _pattern(tables: Tables) -> re.Pattern[str]:
    signs = tuple(sign for sign in tables.literals if sign not in tables.keywords)
    return _pattern_of(tuple(tables.patterns.items()), signs)
