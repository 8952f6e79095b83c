"""Write grammars/wm.tmLanguage.json: highlighting for editors, from the terminals of the grammar.

Run `python -m wmdsl.tools.highlighting`; a test fails while the file is out of date.
"""

from __future__ import annotations

import json
from typing import Any

from wmdsl.syntax.tables import GRAMMARS, Tables, tables

TARGET = GRAMMARS / "wm.tmLanguage.json"
# Keywords that end a head and words of rows may also be names elsewhere; those that start an entry
# are highlighted only where one can start.
_START = r"(?<=^|[{;])\s*(override\s+|drop\s+)?"


def highlighting(grammar: Tables) -> dict[str, Any]:
    """A TextMate grammar of all keywords, units, numbers, texts and comments."""
    starters = "|".join(sorted(grammar.entry_keywords))
    others = "|".join(sorted(grammar.keywords - grammar.entry_keywords))
    unit = grammar.patterns["UNIT"].removesuffix(r"\b")
    return {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "name": "wmdsl",
        "scopeName": "source.wm",
        "fileTypes": ["wm"],
        "patterns": [
            _rule("comment.line.double-slash.wm", grammar.patterns["COMMENT"]),
            _rule("string.quoted.double.wm", grammar.patterns["STRING"]),
            _entry(starters),
            _rule("keyword.operator.word.wm", rf"\b(?:{others})\b"),
            _rule("constant.numeric.dims.wm", rf"\b{grammar.patterns['DIMS']}\b"),
            _quantity(unit),
            _rule("support.function.wm", r"\b[A-Za-z_][A-Za-z0-9_]*(?=\()"),
            _rule("keyword.operator.wm", r"->|[<>]=?|==|[+*/|=]"),
            _rule("punctuation.separator.wm", r"[,;:]"),
        ],
    }


def _rule(name: str, match: str) -> dict[str, Any]:
    return {"name": name, "match": match}


def _entry(starters: str) -> dict[str, Any]:
    """`override trunk seer`: the keywords, and the name that is declared."""
    return {
        "match": rf"{_START}\b({starters})\b(?:\s+([A-Za-z_][A-Za-z0-9_]*))?",
        "captures": {
            "1": {"name": "storage.modifier.wm"},
            "2": {"name": "keyword.declaration.wm"},
            "3": {"name": "entity.name.wm"},
        },
    }


def _quantity(unit: str) -> dict[str, Any]:
    return {
        "match": rf"(-?\b[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?:\s*{unit}\b)?",
        "captures": {
            "1": {"name": "constant.numeric.wm"},
            "2": {"name": "keyword.other.unit.wm"},
        },
    }


def text_of(grammar: Tables) -> str:
    return json.dumps(highlighting(grammar), indent=2) + "\n"


def main() -> None:
    TARGET.write_text(text_of(tables()), encoding="utf-8")


if __name__ == "__main__":
    main()
