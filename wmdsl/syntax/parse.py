"""Text -> syntax tree.  After an error the parser goes on with the next entry, row or attribute,
so that one run reports every independent mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wmdsl.diagnostics import Diagnostics, did_you_mean
from wmdsl.source import Source, Span
from wmdsl.syntax import ast, errors
from wmdsl.syntax.braces import balance
from wmdsl.syntax.build import Builder
from wmdsl.syntax.engine import CLOSERS, Automaton, Reader, Value
from wmdsl.syntax.tables import Message, Tables, tables
from wmdsl.syntax.tokens import END, Token, tokenize

LARGEST_FILE = 1 << 20
MOST_ERRORS = 50
DEEPEST = 32


def read_source(path: str | Path, diagnostics: Diagnostics) -> Source | None:
    """The text of a file, or None and a diagnostic: missing, binary, not UTF-8, too large."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
            size = len(data) if len(data) <= LARGEST_FILE else Path(path).stat().st_size
    except OSError as error:
        diagnostics.add(errors.unreadable(str(path) or "a file", _why_unreadable(path, error)))
        return None
    nameless = Source(str(path), "")
    if b"\0" in data:
        diagnostics.add(errors.binary(nameless, data.index(b"\0")))
    elif len(data) > LARGEST_FILE:
        diagnostics.add(errors.too_large(nameless, size, LARGEST_FILE))
    else:
        try:
            return Source(str(path), data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            diagnostics.add(errors.not_utf8(nameless, error.start))
    return None


def _why_unreadable(path: str | Path, error: OSError) -> str:
    if str(path) == "":
        return "the name is empty"
    if not Path(path).is_dir():
        return error.strerror or str(error)
    holds = "name one of its files" if any(Path(path).rglob("*.wm")) else "it holds no .wm file"
    return f"this is a folder; {holds}"


def parse(source: Source, diagnostics: Diagnostics) -> ast.File:
    """The tree of a source; what could not be read stands in it as `ErrorEntry`."""
    empty = ast.File(None, (), (), (), Span(source, 0, 0))
    if len(source.text) > LARGEST_FILE:
        diagnostics.add(errors.too_large(source, len(source.text), LARGEST_FILE))
        return empty
    parser = _Parser(source, "file", diagnostics)
    tree: ast.File = parser.run() or empty
    if tree.edition is not None and tree.edition.value != errors.EDITION:
        diagnostics.add(errors.unknown_edition(tree.edition.span))
    if not tree.models and not parser.reported:
        diagnostics.add(errors.no_model(source))
    return tree


def lex(source: Source, diagnostics: Diagnostics) -> list[tuple[str, Token]] | None:
    """The terminals of a correct source, line breaks that end an entry included, comments not."""
    found = Diagnostics()
    parser = _Parser(source, "file", found)
    parser.run()
    diagnostics.extend(found)
    return None if len(found) else parser.taken


def parse_item(source: Source, diagnostics: Diagnostics) -> ast.Item | None:
    """One value, as it stands behind `-P name=`; None and a diagnostic where it is malformed."""
    return _Parser(source, "item", diagnostics).run()


class _Parser:
    """One run over one source."""

    def __init__(self, source: Source, start: str, diagnostics: Diagnostics) -> None:
        self.source, self.diagnostics = source, diagnostics
        self.tables: Tables = tables()
        self.build = Builder(source, diagnostics)
        self.automaton = Automaton(self.tables, start, self.build)
        self.reported = 0
        self.blamed: set[int] = set()
        self.last = Token(END, "", 0, 0)
        self.taken: list[tuple[str, Token]] = []
        self.reader = Reader(self._tokens(), self.tables)

    def _tokens(self) -> list[Token]:
        tokens = self._bounded(tokenize(self.source.text, self.tables))
        balanced = balance(tokens, self.tables.entry_keywords, self.source.text)
        for token in balanced.unclosed:
            self._report(errors.unclosed(self._span(token)), token)
        for token, head in balanced.stray:
            place = self._span(head) if head is not None else None
            self._report(errors.stray(self._span(token), place), token)
        blamed = (*balanced.unclosed, *(token for pair in balanced.stray for token in pair))
        self.blamed = {self._line(token) for token in blamed if token is not None}
        return balanced.tokens

    def _bounded(self, tokens: list[Token]) -> list[Token]:
        """Cut the text where braces are nested, or closed in vain, beyond any sense."""
        depth = 0
        for at, token in enumerate(tokens):
            depth += (token.kind == "{") - (token.kind == "}")
            if depth > DEEPEST or depth < -MOST_ERRORS:
                beyond = errors.nested if depth > 0 else errors.too_many
                limit = DEEPEST if depth > 0 else MOST_ERRORS
                self._report(beyond(self._span(token), limit), token)
                return [*tokens[:at], token._replace(kind=END, text="", end=token.start)]
        return tokens

    def run(self) -> Any:
        """The start symbol's node, or None where nothing could be saved."""
        while True:
            kind, token = self.reader.next(self.automaton.row)
            if len(self.reader.brackets) > DEEPEST:
                self._report(errors.nested(self._span(token), DEEPEST), token)
                if not self._skip_entry():
                    return None
                continue
            if self._take(kind, token):
                if kind == END:
                    return self.automaton.values[-1].children[0]
            elif not self._recover(kind, token):
                return None

    def _take(self, kind: str, token: Token) -> bool:
        if not self.automaton.take(kind, token):
            return False
        self.taken.append((kind, token))
        if kind != END:
            self.reader.accept(kind, token)
        if kind != "_SEP":
            self.last = token
        return True

    def _recover(self, kind: str, token: Token) -> bool:
        """Report one mistake and bring the automaton to where it can go on."""
        if self.reported >= MOST_ERRORS:
            self.diagnostics.add(errors.too_many(self._span(token), MOST_ERRORS))
            return False
        if kind == END:
            return self._finish(token)
        repairs = (self._respell, self._separate, self._insert_colon, self._drop_sign,
                   self._list_in_brackets)  # fmt: skip
        if any(repair(kind, token) for repair in repairs):
            return True
        if not self._blame_bracket(kind):
            self._report(self._diagnose(kind, token), token)
        return self._skip_rest() or self._skip_head() or self._skip_entry()

    def _finish(self, token: Token) -> bool:
        """Close what is open at the end of the file; that is a mistake of its own only if no
        other one was found before."""
        if not self.reported:
            self._report(self._diagnose(END, token), token)
        while not self.automaton.would_take((END,)):
            if self.automaton.would_take(("}",)):
                self.automaton.take("}", token._replace(kind="}"))
            elif not self._skip_entry():
                return False
        return True

    def _respell(self, kind: str, token: Token) -> bool:
        """A word near to a keyword that may stand here is read as that keyword."""
        if token.kind != "NAME":
            return False
        allowed = [word for word in self.automaton.expected() if word in self.tables.keywords]
        meant = did_you_mean(token.text, allowed)
        if meant is None or (token.text in self.tables.keywords and meant[0] != token.text[0]):
            return False
        self._report(errors.misspelt(self._span(token), meant), token)
        return self._take(meant, token)

    def _separate(self, kind: str, token: Token) -> bool:
        """Two entries on one line: read on as if `;` stood between."""
        starts = kind in self.tables.keywords or kind == "NAME"
        if not starts or not self.automaton.would_take(("_SEP", kind)):
            if kind != "NAME" or token.text not in self.tables.entry_keywords:
                return False
            if not self.automaton.would_take(("_SEP", token.text)):
                return False
        self._report(errors.run_together(self._span(token), self._span(self.last)), token)
        return self.automaton.take("_SEP", token._replace(end=token.start))

    def _insert_colon(self, kind: str, token: Token) -> bool:
        """`trunk seer dit` is read as `trunk seer: dit`."""
        if not self.automaton.would_take((":", kind)):
            return False
        self._report(errors.colon_missing(self._span(token), self._span(self.last)), token)
        return self.automaton.take(":", Token(":", "", self.last.end, self.last.end))

    def _drop_sign(self, kind: str, token: Token) -> bool:
        """`layers = 4` and `layers: 4` are read as `layers 4`."""
        following = self.reader.tokens[self.reader.at + 1]
        values = ("NAME", "NUMBER", "DIMS", "STRING")
        if kind not in ("=", ":") or following.kind not in values or self.reader.brackets:
            return False
        after_name = self.last.kind == "NAME" and self.last.text not in self.tables.entry_keywords
        if not after_name or not self.automaton.would_take((following.kind,)):
            return False
        self._report(errors.sign_in_value(self._span(token)), token)
        self.reader.resume(self.reader.at + 1)
        return True

    def _list_in_brackets(self, kind: str, token: Token) -> bool:
        """`f(a; b)` is read as `f(a, b)`."""
        if token.text != ";" or not self.automaton.would_take((",",)) or not self.reader.brackets:
            return False
        rest = self.source.text[token.end :].partition("\n")[0]
        if not set(rest) & CLOSERS:
            return False
        self._report(errors.semicolon_in_brackets(self._span(token)), token)
        return self._take(",", token)

    def _blame_bracket(self, kind: str) -> bool:
        """A round or square bracket left open: go on at the end of the line on which it stands."""
        if not self.reader.brackets or kind not in ("}", "{", "_SEP", ":", "sees"):
            return False
        opener = self.reader.brackets[-1]
        self._report(errors.unclosed(self._span(opener)), opener)
        at = self.reader.tokens.index(opener)
        while self.reader.tokens[at].kind not in ("NEWLINE", "_SEP", "{", "}", END):
            at += 1
        self.reader.resume(at)
        return True

    def _diagnose(self, kind: str, token: Token) -> Any:
        span = self._span(token)
        if token.kind == "UNKNOWN":
            return errors.unknown_character(span)
        if token.kind == "OPEN_TEXT":
            return errors.open_text(span)
        if kind in CLOSERS and not self.reader.brackets:
            return errors.stray(span)
        expected = self.automaton.expected()
        keywords = [word for word in expected if word in self.tables.keywords]
        if kind == "NAME" and set(keywords) >= {"stream", "trunk", "query"}:
            return errors.unknown_keyword(span, keywords, self.tables.keywords)
        return errors.unexpected(span, kind, token, expected, self._message())

    def _message(self) -> Message:
        """The row of the innermost state that is not about values in general."""
        tables = self.tables
        rows = [tables.messages[tables.labels[state]] for state in reversed(self.automaton.states)]
        return next((row for row in rows if not row.general), rows[0])

    def _skip_rest(self) -> bool:
        """Behind a declaration that is complete, pass over the rest of the line."""
        if self.last.kind != "}" or not self.automaton.would_take(("_SEP",)):
            return False
        self.reader.resume(_end_of_entry(self.reader.tokens, self.reader.at))
        return True

    def _skip_head(self) -> bool:
        """Behind a malformed head, go on with the braces that follow on the same line."""
        at = self.reader.at
        while self.reader.tokens[at].kind not in ("{", "}", "NEWLINE", "_SEP", END):
            at += 1
        if self.reader.tokens[at].kind != "{" or not self._unwind_to_brace():
            return False
        self.reader.resume(at)
        return True

    def _unwind_to_brace(self) -> bool:
        """Forget as much of the head as keeps braces from following."""
        stack = self.automaton
        for length in range(len(stack.values), 0, -1):
            if stack.would_take(("{",), length):
                del stack.values[length:], stack.states[length + 1 :]
                return True
            if _is_brace(stack.values[length - 1]):
                return False
        return False

    def _skip_entry(self) -> bool:
        """Unwind to the entry, row or attribute that failed and pass over its text."""
        stack, start = self.automaton, self.reader.tokens[self.reader.at].start
        closed = 0
        while closed or "_ERROR" not in stack.row:
            if not stack.values:
                return False
            stack.states.pop()
            value = stack.values.pop()
            start = min(start, value.start)
            if _is_brace(value):
                closed += 1 if value.children[0].kind == "}" else -1
        outside = "import" in stack.row and "model" in stack.row
        ends = _end_outside if outside else _end_of_entry
        at = ends(self.reader.tokens, self.reader.at)
        end = self.reader.tokens[at - 1].end if at else start
        self.reader.resume(at)
        return stack.take("_ERROR", Token("_ERROR", "", start, max(start, end)))

    def _report(self, diagnostic: Any, token: Token) -> None:
        self.reported += 1
        self.build.damage.append(token.start)
        if self._line(token) not in self.blamed:
            self.diagnostics.add(diagnostic)

    def _line(self, token: Token) -> int:
        return self.source.position(token.start)[0]

    def _span(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)


def _is_brace(value: Value) -> bool:
    """Whether a value of the stack is a brace that was shifted and not reduced yet."""
    return len(value.children) == 1 and getattr(value.children[0], "kind", "") in ("{", "}")


def _end_of_entry(tokens: list[Token], at: int) -> int:
    """The number of the token that ends the entry: a break or brace outside of its own braces."""
    depth = 0
    while tokens[at].kind != END:
        kind = tokens[at].kind
        if depth == 0 and kind in ("NEWLINE", "_SEP", "}"):
            break
        depth += (kind == "{") - (kind == "}")
        at += 1
    return at


def _end_outside(tokens: list[Token], at: int) -> int:
    """Outside of models everything up to the next import or model is one mistake."""
    while tokens[at].kind != END:
        starts = tokens[at].kind == "NAME" and tokens[at].text in ("import", "model")
        if starts and tokens[at - 1].kind in ("NEWLINE", "_SEP"):
            return at - 1
        at += 1
    return at
