"""The canonical form: a closed spec as text in the language, every default written out.

Its SHA-256 is the model's identity.  It does not depend on comments, layout, the order of
attributes, parameter names, the title, nor on how files are cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from wmdsl.diagnostics import Diagnostics
from wmdsl.resolve.spec import Spec
from wmdsl.source import Source
from wmdsl.syntax import ast, parse_item
from wmdsl.syntax.text import (
    assertion_text,
    attribute_text,
    expression_text,
    head_text,
    items_text,
    row_text,
)
from wmdsl.vocabulary import FORMS, GUARDS, LAWS, TEACHERS, Attribute, Kind

_CALLS = {"law": LAWS, "teacher": TEACHERS, "guard": GUARDS}
_KIND_ROLES = {"stream": "type", "codec": "kind", "trunk": "kind", "planner": "kind"}


def canon(spec: Spec) -> str:
    """The canonical text; parsing and resolving it gives the same text again."""
    parts = [_declaration(entry) for entry in spec.declarations]
    parts += sorted(assertion_text(entry) for entry in spec.assertions)
    body = "".join(f"  {line}\n" for part in parts for line in part.splitlines())
    return f"edition {spec.edition}\n\nmodel {spec.name} {{\n{body}}}\n"


def identity(canonical: str) -> str:
    """SHA-256 of a canonical text, in hexadecimal."""
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def with_defaults(entry: ast.Declaration) -> ast.Declaration:
    """The declaration with every default of its form and kind, in the order of the vocabulary."""
    rows = FORMS[entry.form].attributes_of(kind_of(entry))
    written = {attribute.name.text: attribute for attribute in entry.attributes}
    ordered = []
    for row in rows:
        attribute = written.pop(row.name, None) or _default(row, entry)
        if attribute is not None:
            ordered.append(_completed(attribute, row))
    ordered += sorted(written.values(), key=lambda attribute: attribute.name.text)
    return replace(entry, attributes=tuple(ordered))


def kind_of(entry: ast.Declaration) -> str | None:
    """The word that chooses the declaration's row in the vocabulary: `dit`, `video`, `flow`."""
    clause = entry.clause(_KIND_ROLES.get(entry.form, "by"))
    term = clause.items[0].terms[0] if clause else None
    if isinstance(term, ast.Call):
        term = term.function
    return term.dotted if isinstance(term, ast.Reference) else None


def _declaration(entry: ast.Declaration) -> str:
    full = with_defaults(entry)
    inside = [attribute_text(attribute) for attribute in full.attributes]
    inside += row_texts(full)
    if not inside:
        return head_text(full)
    return "\n".join([f"{head_text(full)} {{", *(f"  {line}" for line in inside), "}"])


def row_texts(entry: ast.Declaration) -> list[str]:
    """The rows of an attend, one for each subject: how subjects are bundled says nothing."""
    return sorted(row_text(row) for row in _single(entry.rows))


def _single(rows: tuple[ast.Sees | ast.Order, ...]) -> Iterator[ast.Sees | ast.Order]:
    for row in rows:
        if isinstance(row, ast.Order):
            yield row
            continue
        objects = tuple(sorted(row.objects, key=expression_text))
        for subject in row.subjects:
            yield replace(row, subjects=(subject,), objects=objects)


def _default(row: Attribute, entry: ast.Declaration) -> ast.Attribute | None:
    if row.default is None:
        return None
    items = tuple(_item(part) for part in _split(row.default))
    return ast.Attribute(ast.Name(row.name, entry.span), items, entry.span)


def _split(text: str) -> list[str]:
    """Items of a default: commas outside of brackets separate them."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _item(text: str) -> ast.Item:
    diagnostics = Diagnostics()
    item = parse_item(Source("<vocabulary>", text), diagnostics)
    if item is None or len(diagnostics):
        raise ValueError(f"the vocabulary holds a default that is no value: {text!r}")
    return item


def _completed(attribute: ast.Attribute, row: Attribute) -> ast.Attribute:
    """Arguments of laws, teachers and guards that were left out are written too."""
    table = _CALLS.get(row.type)
    if table is None or len(attribute.items) != 1 or len(attribute.items[0].terms) != 1:
        return attribute
    item = attribute.items[0]
    call = _completed_call(item.terms[0], table)
    return replace(attribute, items=(replace(item, terms=(call,)),))


def _completed_call(term: ast.Expression, table: dict[str, Kind]) -> ast.Expression:
    written = term.arguments if isinstance(term, ast.Call) else ()
    function = term.function if isinstance(term, ast.Call) else term
    if not isinstance(function, ast.Reference) or function.dotted not in table:
        return term
    missing = table[function.dotted].arguments[len(written) :]
    if any(row.default is None for row in missing):
        return term
    arguments = written + tuple(_item(str(row.default)) for row in missing)
    return ast.Call(function, arguments, term.span) if arguments else function


def head_and_attributes(entry: ast.Declaration) -> tuple[str, dict[str, str]]:
    """Canonical head and attribute texts, for comparing two declarations."""
    full = with_defaults(entry)
    return head_text(full), {part.name.text: items_text(part.items) for part in full.attributes}
