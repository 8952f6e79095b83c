"""Write docs/reference.md from the grammar, the vocabulary and the table of codes.

Run `python -m wmdsl.tools.reference`; a test fails while the file is out of date.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from wmdsl.check.errors.attributes import EXPECTED
from wmdsl.diagnostics import CODES
from wmdsl.syntax.tables import GRAMMARS
from wmdsl.vocabulary import (
    FORMS,
    GUARDS,
    LAWS,
    LEVELS,
    SAMPLERS,
    TEACHERS,
    Attribute,
    Form,
    Kind,
)

TARGET = GRAMMARS.parent / "docs" / "reference.md"
TABLES = {
    "Noise laws": LAWS,
    "Samplers": SAMPLERS,
    "Teachers": TEACHERS,
    "Guards against collapse": GUARDS,
}
INTRODUCTION = """\
# Reference

Generated from the grammar, the vocabulary and the table of codes by
`python -m wmdsl.tools.reference`; do not edit it by hand.

A file holds one line `edition 2026`, imports, and models. The last model of a file is the file's
own; `FILE:MODEL` names another one. A comma continues a list; a line break or `;` ends an entry.
No word is reserved: keywords are keywords only where the grammar expects them.

*cannot run yet* marks what can be written, checked, planned and drawn, but not yet executed.
"""


def reference(grammar: str) -> str:
    """The manual as Markdown."""
    parts = [INTRODUCTION, *_forms(), *_words(), _levels(), *_codes(), "## Grammar\n"]
    return "\n".join([*parts, f"```lark\n{grammar.rstrip()}\n```\n"])


def _forms() -> Iterator[str]:
    yield "## Declarations\n"
    for form in FORMS.values():
        yield f"### {form.name}\n\n{form.doc}{_runs(form.runs)}\n\n```wm\n{form.example}\n```\n"
        yield from _attributes(form.attributes)
        yield from _kinds(form)


def _kinds(form: Form) -> Iterator[str]:
    for kind in (form.kinds or {}).values():
        yield f"#### {form.name}: {_signature(kind, form)}\n\n{_about(kind)}\n"
        yield from _attributes(kind.attributes)


def _signature(kind: Kind, form: Form) -> str:
    names = ", ".join(row.name for row in kind.arguments)
    left, right = "[]" if form.name == "stream" else "()"
    return f"`{kind.name}{left}{names}{right}`" if names else f"`{kind.name}`"


def _about(kind: Kind) -> str:
    facts = [kind.doc]
    if kind.level:
        facts.append(f"Level: {kind.level}.")
    if kind.reads:
        facts.append(f"Reads {', '.join(kind.reads)}.")
    if kind.source:
        facts.append(f"Source: {kind.source}.")
    return " ".join(facts) + _runs(kind.runs)


def _runs(runs: bool) -> str:
    return "" if runs else " *Cannot run yet.*"


def _attributes(rows: Iterable[Attribute]) -> Iterator[str]:
    lines = [_attribute(row) for row in rows]
    if lines:
        yield "| attribute | value | default | meaning |\n|---|---|---|---|\n" + "\n".join(lines)
        yield ""


def _attribute(row: Attribute) -> str:
    default = "needed" if row.required else f"`{row.default}`" if row.default is not None else ""
    meaning = _cell(row.doc) + ("" if row.runs else " *Cannot run yet.*")
    return f"| `{row.name}` | {_cell(_value(row))} | {default} | {meaning} |"


def _value(row: Attribute) -> str:
    if row.choices:
        return ", ".join(f"`{choice}`" for choice in row.choices)
    bound = f", at least {row.minimum:g}" if row.minimum is not None else ""
    most = f", at most {row.maximum}" if row.maximum is not None else ""
    return EXPECTED[row.type] + bound + most


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _words() -> Iterator[str]:
    for title, table in TABLES.items():
        yield f"## {title}\n"
        yield from _word_table(table)


def _word_table(table: Mapping[str, Kind]) -> Iterator[str]:
    lines = ["| word | arguments | meaning |", "|---|---|---|"]
    for kind in table.values():
        arguments = ", ".join(
            f"{row.name} = {row.default}" if row.default is not None else row.name
            for row in kind.arguments
        )
        lines.append(f"| `{kind.name}` | {arguments} | {_cell(_about(kind))} |")
    yield "\n".join(lines)
    yield ""


def _levels() -> str:
    return f"## Levels\n\n{', '.join(f'`{level}`' for level in LEVELS)}\n"


def _codes() -> Iterator[str]:
    yield "## Codes\n\n`wmdsl explain CODE` prints the page of a code.\n"
    lines = ["| code | | title | meaning |", "|---|---|---|---|"]
    lines += [
        f"| {row.code} | {row.severity} | {row.title} | {_cell(row.meaning)} |"
        for row in CODES.values()
    ]
    yield "\n".join(lines)
    yield ""


def main() -> None:
    grammar = (GRAMMARS / "wm.lark").read_text(encoding="utf-8")
    TARGET.write_text(reference(grammar), encoding="utf-8")


if __name__ == "__main__":
    main()
