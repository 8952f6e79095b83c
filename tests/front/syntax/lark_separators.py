"""Line breaks as separators, written for Lark: the reference for `wmdsl.syntax.engine.Reader`."""

from collections.abc import Iterator

from lark import Token

OPENERS = {"LPAR", "LSQB"}
CLOSERS = {"RPAR", "RSQB"}
CONTINUES = OPENERS | {
    "_SEP", "LBRACE", "COMMA", "COLON", "VBAR", "EQUAL", "COMPARE", "PLUS", "MINUS", "STAR",
    "SLASH", "BY", "TO", "SEES", "WHERE", "THEN", "FROM",
}  # fmt: skip


class Separators:
    """A line break becomes `_SEP` where an entry ends, and vanishes elsewhere."""

    always_accept = ("NEWLINE",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth, previous, arrow = 0, "_SEP", False
        for token in stream:
            if token.type in ("NEWLINE", "_SEP"):
                explicit = token.type == "_SEP"
                goes_on = depth or arrow or previous in CONTINUES
                if previous in ("_SEP", "LBRACE") if explicit else goes_on:
                    continue
                token = Token.new_borrow_pos("_SEP", token, token)
            depth += (token.type in OPENERS) - (token.type in CLOSERS)
            depth = 0 if token.type in ("LBRACE", "RBRACE") else max(depth, 0)
            previous, arrow = token.type, token == "->"
            yield token
