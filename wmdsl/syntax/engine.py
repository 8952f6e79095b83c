"""The LALR automaton: tokens in, reductions out; knows nothing of recovery or of messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from wmdsl.syntax.tables import Tables
from wmdsl.syntax.tokens import END, Token

OPENERS, CLOSERS = frozenset("(["), frozenset(")]")
CONTINUES = OPENERS | {
    "_SEP", "{", ",", ":", "|", "=", "COMPARE", "+", "-", "*", "/", "->",
    "by", "to", "sees", "where", "then", "from",
}  # fmt: skip
CONTINUED = frozenset({"|", "->", "then", "where"})


class Value(NamedTuple):
    """What stands on the parser's stack: the children that reach the tree, and their extent."""

    children: list[Any]
    start: int
    end: int


Build = Callable[[str, tuple[Any, ...], int, int], Any]


class Automaton:
    """The two stacks.  `build(rule name, children, start, end)` makes a node of the tree."""

    def __init__(self, tables: Tables, start: str, build: Build) -> None:
        self.tables, self.build = tables, build
        self.states = [tables.starts[start]]
        self.values: list[Value] = []
        self._end = tables.ends[start]

    @property
    def row(self) -> dict[str, int]:
        """What the present state can do: terminal -> action."""
        return self.tables.actions[self.states[-1]]

    @property
    def accepted(self) -> bool:
        return self.states[-1] == self._end

    def would_take(self, kinds: Sequence[str], length: int | None = None) -> bool:
        """Whether the terminals `kinds`, one after the other, would all be shifted.

        `length`: were only that many values of the stack left.
        """
        states = list(self.states if length is None else self.states[: length + 1])
        return all(self._simulate(states, kind) for kind in kinds)

    def expected(self) -> tuple[str, ...]:
        """Terminals that would be shifted now."""
        return tuple(kind for kind in self.row if self.would_take((kind,)))

    def _simulate(self, states: list[int], kind: str) -> bool:
        while (action := self.tables.actions[states[-1]].get(kind)) is not None:
            if action >= 0:
                states.append(action)
                return True
            rule = self.tables.rules[-1 - action]
            del states[len(states) - rule.length :]
            states.append(self.tables.gotos[states[-1]][rule.symbol])
            if kind == END and states[-1] == self._end:
                return True
        return False

    def take(self, kind: str, token: Token) -> bool:
        """Reduce what `kind` completes and shift it; False, and nothing undone, on an error."""
        while (action := self.row.get(kind)) is not None:
            if action >= 0:
                self.states.append(action)
                kept = token._replace(kind=kind)
                self.values.append(Value([kept], token.start, token.end))
                return True
            self._reduce(-1 - action)
            if kind == END and self.accepted:
                return True
        return False

    def _reduce(self, number: int) -> None:
        rule = self.tables.rules[number]
        taken = self.values[len(self.values) - rule.length :]
        del self.values[len(self.values) - rule.length :]
        del self.states[len(self.states) - rule.length :]
        start, end = (taken[0].start, taken[-1].end) if taken else (0, 0)
        children = _joined([taken[at].children for at in rule.kept])
        if not rule.dissolves:
            children = [self.build(rule.name, tuple(children), start, end)]
        self.values.append(Value(children, start, end))
        self.states.append(self.tables.gotos[self.states[-1]][rule.symbol])


def _joined(parts: list[list[Any]]) -> list[Any]:
    """One list of all; the first is extended in place, which keeps long lists linear."""
    if not parts:
        return []
    first = parts[0]
    for part in parts[1:]:
        first.extend(part)
    return first


class Reader:
    """Tokens as the automaton's present state wants them; line breaks end an entry or vanish."""

    def __init__(self, tokens: list[Token], tables: Tables) -> None:
        self.tokens = tokens
        self.at = 0
        self.brackets: list[Token] = []
        self._previous = "_SEP"
        self._keywords = tables.keywords
        self._unit = re.compile(tables.patterns["UNIT"])

    def next(self, row: dict[str, int]) -> tuple[str, Token]:
        """The terminal and the token that stand next; `accept` passes over them."""
        while True:
            token = self.tokens[self.at]
            if token.kind == "COMMENT" or (token.kind in ("NEWLINE", "_SEP") and self._goes_on()):
                self.at += 1
                continue
            return self._terminal(token, row), self.tokens[self.at]

    def accept(self, kind: str, token: Token) -> None:
        """Pass over what `next` gave."""
        if kind in OPENERS:
            self.brackets.append(token)
        elif kind in CLOSERS and self.brackets:
            self.brackets.pop()
        elif kind in "{}":
            self.brackets.clear()
        self._previous = kind
        self.at += 1

    def resume(self, at: int) -> None:
        """Go on at token number `at`, outside of all round and square brackets."""
        self.at = at
        self.brackets.clear()
        self._previous = ""

    def _goes_on(self) -> bool:
        if self.tokens[self.at].kind == "_SEP":
            return self._previous in ("_SEP", "{")
        if self.brackets or self._previous in CONTINUES:
            return True
        return self._following().text in CONTINUED

    def _following(self) -> Token:
        at = self.at
        while self.tokens[at].kind in ("NEWLINE", "COMMENT"):
            at += 1
        return self.tokens[at]

    def _terminal(self, token: Token, row: dict[str, int]) -> str:
        if token.kind == "NEWLINE":
            return "_SEP"
        if token.kind == "NAME":
            if token.text in row and token.text in self._keywords:
                return token.text
            return "UNIT" if "UNIT" in row and self._unit.fullmatch(token.text) else "NAME"
        if token.kind == "NUMBER" and token.text[0] == "-" and "NUMBER" not in row and "-" in row:
            rest = Token("NUMBER", token.text[1:], token.start + 1, token.end)
            self.tokens[self.at : self.at + 1] = [Token("-", "-", token.start, rest.start), rest]
            return "-"
        return token.kind
