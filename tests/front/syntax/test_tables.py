"""tables.json is what Lark makes of the grammar, and Lark itself reads every text the same way."""

import pytest
from lark import Lark, Token, Tree

from tests.front.syntax.corpus import FILES, source
from tests.front.syntax.lark_separators import Separators
from wmdsl.diagnostics import Diagnostics
from wmdsl.syntax import parse
from wmdsl.syntax.engine import Automaton, Reader
from wmdsl.syntax.tables import GRAMMARS, TABLES, tables
from wmdsl.syntax.tokens import END, tokenize
from wmdsl.tools.tables import build_tables

GRAMMAR = (GRAMMARS / "wm.lark").read_text(encoding="utf-8")
MESSAGES = (GRAMMARS / "messages.toml").read_text(encoding="utf-8")


def test_the_tables_are_up_to_date():
    fresh = build_tables(GRAMMAR, MESSAGES)
    assert fresh == TABLES.read_text(encoding="utf-8"), "run `python -m wmdsl.tools.tables`"


def test_an_ambiguous_grammar_is_refused():
    ambiguous = GRAMMAR.replace("?declaration: stream", "?declaration: stream block? | stream")
    assert ambiguous != GRAMMAR
    with pytest.raises(ValueError, match="the grammar is ambiguous"):
        build_tables(ambiguous, MESSAGES)


def test_a_state_without_a_message_is_refused():
    with pytest.raises(ValueError, match="no row for a state"):
        build_tables(GRAMMAR, MESSAGES.replace('rules = ["planner"]', 'rules = ["nothing"]'))


@pytest.fixture(scope="module")
def lark():
    return Lark(GRAMMAR, parser="lalr", start="file", postlex=Separators(),
                maybe_placeholders=False)  # fmt: skip


def shape_of_lark(node):
    if isinstance(node, Token):
        return str(node)
    return (node.data, *(shape_of_lark(child) for child in node.children))


def shape(text):
    """The tree of our own automaton, as nested tuples of rule names and token texts."""
    automaton = Automaton(tables(), "file", lambda rule, parts, start, end: (rule, *parts))
    reader = Reader(tokenize(text, tables()), tables())
    while True:
        kind, token = reader.next(automaton.row)
        assert automaton.take(kind, token), f"unexpected {kind} {token}"
        if kind == END:
            return plain(automaton.values[-1].children[0])
        reader.accept(kind, token)


def plain(node):
    return tuple(map(plain, node)) if type(node) is tuple else getattr(node, "text", node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_lark_reads_the_same_tree(lark, path):
    text = source(path).text
    tree = lark.parse(text)
    assert isinstance(tree, Tree)
    assert shape(text) == shape_of_lark(tree)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_correct_texts_have_no_syntax_errors(path):
    found = Diagnostics()
    tree = parse(source(path), found)
    assert [entry.message for entry in found] == []
    assert tree.models
