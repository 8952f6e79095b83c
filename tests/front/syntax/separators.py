"""Line breaks as separators: a line ends an entry unless something shows that it goes on."""

from __future__ import annotations

from collections.abc import Iterator

from lark import Token

OPENERS = {"LPAR", "LSQB"}
CLOSERS = {"RPAR", "RSQB"}
CONTINUES = OPENERS | {
    "_SEP", "LBRACE", "COMMA", "COLON", "VBAR", "EQUAL", "COMPARE", "PLUS", "MINUS", "STAR",
    "__ANON_0", "BY", "TO", "SEES", "WHERE", "THEN", "FROM",
}  # fmt: skip


class Separators:
    """Lark post-lexer: turns NEWLINE into `_SEP` where an entry ends and drops it elsewhere.

    No separator stands inside round or square brackets, after a comma or another sign that wants
    more, nor twice in a row.  It never looks ahead: the contextual lexer must know the parser's
    state before it reads the next token (breaks before `|`, `->`, `then`, `where` are the
    grammar's CONTINUED terminal).
    """

    always_accept = ("NEWLINE",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth, previous = 0, "_SEP"
        for token in stream:
            if token.type in ("NEWLINE", "_SEP"):
                explicit = token.type == "_SEP"
                if previous in ("_SEP", "LBRACE") if explicit else depth or previous in CONTINUES:
                    continue
                token = Token.new_borrow_pos("_SEP", token, token)
            depth += (token.type in OPENERS) - (token.type in CLOSERS)
            depth = 0 if token.type in ("LBRACE", "RBRACE") else max(depth, 0)
            previous = token.type
            yield token
