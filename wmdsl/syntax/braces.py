"""Unbalanced braces: which one is it?  Indentation tells what the author meant."""

from __future__ import annotations

from typing import NamedTuple

from wmdsl.syntax.tokens import Token

BREAKS = frozenset({"NEWLINE", "COMMENT", "$END"})


class Balance(NamedTuple):
    """Balanced tokens, the opening braces without a partner, and the closing ones.

    A closing brace may stand with the last token of the line on which its partner is missing.
    """

    tokens: list[Token]
    unclosed: tuple[Token, ...]
    stray: tuple[tuple[Token, Token | None], ...]


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
        self.stray: list[tuple[Token, Token | None]] = []

    def run(self) -> Balance:
        for token in self.tokens:
            first = not self.out or self.out[-1].kind == "NEWLINE"
            if token.kind == "$END":
                self._close(len(self.open))
            elif first and self.missing > 0:
                self._close(self._left_open(token))
            if token.kind == "}" and self._closes_nothing(token, first):
                head = self._open_before(token) if first else None
                self.stray.append((token, head))
                self.missing += 1
                if head is None:
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
        """Too many closers: the first that stands oddly, else the one that has no partner."""
        if not self.open:
            return True
        if self.missing >= 0:
            return False
        opener = self.open[-1]
        if first:
            return self._indent(token) > self._indent(opener)
        return self._line_start(token) != self._line_start(opener)

    def _open_before(self, closer: Token) -> Token | None:
        """Insert the opener of a closer: at the end of the last line that is not deeper."""
        indent = self._indent(closer)
        for at in range(len(self.out) - 1, -1, -1):
            token = self.out[at]
            starts_line = at == 0 or self.out[at - 1].kind == "NEWLINE"
            if token.kind in BREAKS or not starts_line or self._indent(token) > indent:
                continue
            end = at
            while self.out[end].kind not in BREAKS:
                end += 1
            line = self.out[at:end]
            if self._indent(token) < indent or line[-1].kind in ("{", "}") or end == len(self.out):
                return None
            opener = Token("{", "", line[-1].end, line[-1].end)
            self.out.insert(end, opener)
            self.open.append(opener)
            return line[-1]
        return None

    def _close(self, count: int) -> None:
        """Insert closers behind the last token that is neither a break nor a comment."""
        for _ in range(count):
            opener = self.open.pop()
            self.unclosed.append(opener)
            self.missing -= 1
            if self._strays(opener):
                self.out.remove(opener)
                continue
            at = len(self.out)
            while at and self.out[at - 1].kind in BREAKS:
                at -= 1
            end = self.out[at - 1].end
            self.out.insert(at, Token("}", "", end, end))

    def _strays(self, opener: Token) -> bool:
        """Whether another brace opens later on the line, so that this one is the odd one."""
        at = self.out.index(opener)
        rest = [token for token in self.out[at + 1 :] if token.start < self._line_end(opener)]
        entry = bool(rest) and rest[0].text in self.keywords
        return not entry and any(token.kind == "{" for token in rest)

    def _line_start(self, token: Token) -> int:
        return self.text.rfind("\n", 0, token.start) + 1

    def _line_end(self, token: Token) -> int:
        end = self.text.find("\n", token.start)
        return end if end >= 0 else len(self.text)

    def _indent(self, token: Token) -> int:
        start = self._line_start(token)
        line = self.text[start : token.start + 1]
        return len(line) - len(line.lstrip(" \t"))
