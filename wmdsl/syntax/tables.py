"""The parser's tables, as `python -m wmdsl.tools.tables` writes them."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from wmdsl.record import record

_PACKAGE = Path(__file__).resolve().parent.parent
TABLES = _PACKAGE / "syntax" / "tables.json"
GRAMMARS = next(
    folder for folder in (_PACKAGE / "_grammars", _PACKAGE.parent / "grammars") if folder.is_dir()
)

WORD = re.compile(r"[a-z]+")


class Rule(NamedTuple):
    """`symbol: ...` of `length` symbols; `kept` are those that reach the tree."""

    symbol: str
    name: str
    length: int
    dissolves: bool
    kept: tuple[int, ...]


class Message(NamedTuple):
    """A row of grammars/messages.toml."""

    code: str
    text: str
    help: str
    general: bool


@record
class Tables:
    """An LALR automaton: action >= 0 shifts to a state, action < 0 reduces by rule -1 - action.

    An error in state s is described by `messages[labels[s]]`, or by that of a state below it on
    the stack where that row is general.
    """

    starts: dict[str, int]
    ends: dict[str, int]
    patterns: dict[str, str]
    literals: tuple[str, ...]
    rules: tuple[Rule, ...]
    actions: tuple[dict[str, int], ...]
    gotos: tuple[dict[str, int], ...]
    messages: tuple[Message, ...]
    labels: tuple[int, ...]
    keywords: frozenset[str]
    entry_keywords: frozenset[str]

    @classmethod
    def of(cls, data: dict[str, Any]) -> Tables:
        """Tables from the content of tables.json."""
        keywords = frozenset(word for word in data["literals"] if WORD.fullmatch(word))
        entry = [row for row in data["actions"] if "_ERROR" in row and "NAME" not in row]
        return cls(
            starts=data["starts"],
            ends=data["ends"],
            patterns=data["patterns"],
            literals=tuple(data["literals"]),
            rules=tuple(Rule(*row[:4], tuple(row[4])) for row in data["rules"]),
            actions=tuple(data["actions"]),
            gotos=tuple(data["gotos"]),
            messages=tuple(Message(*row) for row in data["messages"]),
            labels=tuple(data["labels"]),
            keywords=keywords,
            entry_keywords=frozenset().union(*entry) & keywords,
        )


@lru_cache(maxsize=1)
def tables() -> Tables:
    """The tables of this edition, read once."""
    return Tables.of(json.loads(TABLES.read_text(encoding="utf-8")))
