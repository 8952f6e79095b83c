"""Turn grammars/wm.lark and grammars/messages.toml into wmdsl/syntax/tables.json.

Lark builds the LALR automaton here, once, when the grammar changes; reading a spec then needs
neither Lark nor the grammar, which keeps `wmdsl check` quick.  Run `python -m wmdsl.tools.tables`;
a test fails while the file is out of date.
"""

from __future__ import annotations

import json
import logging
import re
import tomllib
from collections import deque
from pathlib import Path
from typing import Any

from wmdsl.syntax.tables import GRAMMARS, TABLES
from wmdsl.syntax.tokens import END

STARTS = ("file", "item")
HELPER = re.compile(r"^__(.+)_(?:star|plus)_\d+$")


def build_tables(grammar: str, messages: str) -> str:
    """The text of tables.json; raises ValueError where the grammar is ambiguous."""
    tables, contexts = _automaton(grammar)
    tables |= _messages(contexts, tomllib.loads(messages)["message"])
    rows = (f" {json.dumps(key)}: {_rows(value)}" for key, value in tables.items())
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _rows(value: Any) -> str:
    """JSON with one line for each element of a long list, so that diffs stay readable."""
    if not isinstance(value, list) or not isinstance(value[0], (list, dict)):
        return json.dumps(value)
    return "[\n" + ",\n".join("  " + json.dumps(row) for row in value) + "\n ]"


def _automaton(grammar: str) -> tuple[dict[str, Any], list[list[str]]]:
    """The tables but the messages, and for each state the rules that it is inside of."""
    from lark import Lark

    parser = _lark_without_conflicts(Lark, grammar)
    table = parser.parser.parser._parse_table
    names = {terminal.name: _terminal(terminal) for terminal in parser.terminals}
    names |= {END: END, "_ERROR": "_ERROR"}
    order = _numbering(table, names)
    rules = {id(rule): number for number, rule in enumerate(parser.rules)}
    actions, gotos = [], []
    for state in order:
        moves = {
            key: order[target] if action.name == "Shift" else -1 - rules[id(target)]
            for key, (action, target) in table.states[state].items()
        }
        terminals = {names[key]: move for key, move in moves.items() if key in names}
        actions.append(dict(sorted(terminals.items())))
        gotos.append({key: moves[key] for key in sorted(moves) if key not in names})
    patterns = {
        terminal.name: terminal.pattern.value
        for terminal in parser.terminals
        if names[terminal.name] == terminal.name
    }
    tables = {
        "starts": {start: order[table.start_states[start]] for start in STARTS},
        "ends": {start: order[table.end_states[start]] for start in STARTS},
        "patterns": dict(sorted(patterns.items())),
        "literals": sorted(name for key, name in names.items() if key != name),
        "rules": [_rule(rule) for rule in parser.rules],
        "actions": actions,
        "gotos": gotos,
    }
    return tables, [_context(state) for state in order]


def _lark_without_conflicts(lark: Any, grammar: str) -> Any:
    """Lark resolves shift/reduce conflicts in silence; here each one is an error."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("lark")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        parser = lark(grammar, parser="lalr", lexer="contextual", start=list(STARTS), debug=True,
                      maybe_placeholders=False, postlex=_KeepNewlines())  # fmt: skip
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    conflicts = [line for line in heard if "conflict" in line.lower()]
    if conflicts:
        raise ValueError("the grammar is ambiguous:\n" + "\n".join(conflicts))
    return parser


class _KeepNewlines:
    """Tells Lark that NEWLINE is used, though no rule names it."""

    always_accept = ("NEWLINE",)

    def process(self, stream: Any) -> Any:
        return stream


def _terminal(terminal: Any) -> str:
    """Keywords and signs are called by what is written; the rest by the grammar's name."""
    literal = type(terminal.pattern).__name__ == "PatternStr"
    return terminal.pattern.value if literal and terminal.name != "_SEP" else terminal.name


def _numbering(table: Any, names: dict[str, str]) -> dict[int, int]:
    """States in breadth-first order, so that equal grammars give equal bytes."""
    order: dict[int, int] = {}
    queue = deque(table.start_states[start] for start in STARTS)
    while queue:
        state = queue.popleft()
        if state in order:
            continue
        order[state] = len(order)
        moves = [
            ((key in names, names.get(key, key)), target)
            for key, (action, target) in table.states[state].items()
            if action.name == "Shift"
        ]
        queue.extend(target for _, target in sorted(moves, key=lambda move: move[0]))
    return order


def _rule(rule: Any) -> list[Any]:
    """Name, length, whether it dissolves into its parent, and the positions that are kept."""
    name = rule.alias or rule.origin.name
    kept = [
        at for at, symbol in enumerate(rule.expansion)
        if not symbol.is_term or not symbol.filter_out
    ]  # fmt: skip
    dissolves = rule.origin.name.startswith("_") or rule.options.expand1
    return [rule.origin.name, name, len(rule.expansion), dissolves, kept]


def _messages(contexts: list[list[str]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows, and for each state the number of its row."""
    labels = []
    for context in contexts:
        matching = (at for at, row in enumerate(rows) if set(row["rules"]) & set(context))
        label = next(matching, None)
        if label is None:
            raise ValueError(f"messages.toml has no row for a state inside of {context}")
        labels.append(label)
    return {
        "messages": [
            [row["code"], row["message"], row["help"], row.get("general", False)] for row in rows
        ],
        "labels": labels,
    }


def _context(state: Any) -> list[str]:
    """The rules that a state is inside of: those of which a part was read already."""
    started = any(item.index > 0 for item in state)
    return sorted({_owner(item.rule) for item in state if item.index > 0 or not started})


def _owner(rule: Any) -> str:
    """The rule of the grammar that Lark made a rule for; equal comma lists share one."""
    owner = HELPER.match(rule.origin.name)
    if owner is None:
        return rule.origin.name
    listed = any(symbol.name == "COMMA" for symbol in rule.expansion)
    return "_list" if listed else owner.group(1)


def main() -> None:
    grammar = (GRAMMARS / "wm.lark").read_text(encoding="utf-8")
    messages = (GRAMMARS / "messages.toml").read_text(encoding="utf-8")
    Path(TABLES).write_text(build_tables(grammar, messages), encoding="utf-8")


if __name__ == "__main__":
    main()
