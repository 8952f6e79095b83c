"""Unbalanced braces: which one is it?  Indentation tells what the author meant."""

from __future__ import annotations

from typing import NamedTuple

from wmdsl.syntax.tokens import Token

BREAKS = frozenset({"NEWLINE", "COMMENT", "$END"})


class Balance(NamedTuple):
    """Balanced tokens, the opening braces without a partner, and the closing ones."""

    tokens: list[Token]
    unclosed: tuple[Token, ...]
    stray: tuple[Token, ...]


def balance(tokens: list[Token], keywords: frozenset[str], text: str) -> Balance:
    """Insert the closing braces that are missing and drop those that close nothing."""
    missing = _excess(tokens)
    if missing == 0 and not _dips(tokens):
        return Balance(tokens, (), ())
    return _Balancer(tokens, keywords, text, missing).run()


def _excess(tokens: list[Token]) -> int:
    return sum((token.kind == "{") - (token.kind == "}") for token in tokens)


def _dips(tokens: list[Token]) -> bool:
    depth = 0
    for token in tokens:
        depth += (token.kind == "{") - (token.kind == "}")
        if depth < 0:
            return True
    return False


class _Balancer:
    """One walk; `missing` > 0 closers may be inserted early, < 0 may be dropped early."""

    def __init__(
        self, tokens: list[Token], keywords: frozenset[str], text: str, missing: int
    ) -> None:
        self.tokens, self.keywords, self.text, self.missing = tokens, keywords, text, missing
        self.open: list[Token] = []
        self.out: list[Token] = []
        self.unclosed: list[Token] = []
        self.stray: list[Token] = []

    def run(self) -> Balance:
        for token in self.tokens:
            first = not self.out or self.out[-1].kind == "NEWLINE"
            if token.kind == "$END":
                self._close(len(self.open))
            elif first and self.missing > 0:
                self._close(self._left_open(token))
            if token.kind == "}" and self._closes_nothing(token, first):
                self.stray.append(token)
                self.missing += 1
                continue
            self._push(token)
        return Balance(self.out, tuple(self.unclosed), tuple(self.stray))

    def _push(self, token: Token) -> None:
        if token.kind == "{":
            self.open.append(token)
        elif token.kind == "}":
            self.open.pop()
        self.out.append(token)

    def _left_open(self, token: Token) -> int:
        """How many open braces the first token of a line shows to be forgotten."""
        starts_entry = token.kind == "NAME" and token.text in self.keywords
        if not self.open or not (starts_entry or token.kind == "}"):
            return 0
        indent, opener = self._indent(token), self._indent(self.open[-1])
        forgotten = indent <= opener if starts_entry else indent < opener
        return 1 if forgotten else 0

    def _closes_nothing(self, token: Token, first: bool) -> bool:
        if not self.open:
            return True
        deeper = self._indent(token) > self._indent(self.open[-1])
        return self.missing < 0 and first and deeper

    def _close(self, count: int) -> None:
        """Insert closers behind the last token that is neither a break nor a comment."""
        at = len(self.out)
        while at and self.out[at - 1].kind in BREAKS:
            at -= 1
        for _ in range(count):
            self.unclosed.append(self.open.pop())
            end = self.out[at - 1].end
            self.out.insert(at, Token("}", "", end, end))
            self.missing -= 1

    def _indent(self, token: Token) -> int:
        start = self.text.rfind("\n", 0, token.start) + 1
        line = self.text[start : token.start + 1]
        return len(line) - len(line.lstrip(" \t"))
