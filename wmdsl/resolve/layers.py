"""Layers of a model: its bases from the root on, then the `when` blocks that hold.

A layer adds declarations, overrides them attribute by attribute, or drops them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from wmdsl.diagnostics import Diagnostics
from wmdsl.resolve import errors
from wmdsl.resolve.canon import kind_of
from wmdsl.syntax import ast
from wmdsl.vocabulary import FORMS

Key = tuple[str, str]
Expand = Callable[[ast.Declaration], ast.Declaration]


class Layers:
    """The declarations so far.  `may_declare(name)` forgives names in text that was skipped."""

    def __init__(self, diagnostics: Diagnostics, may_declare: Callable[[str], bool]) -> None:
        self.diagnostics, self.may_declare = diagnostics, may_declare
        self.declarations: dict[Key, ast.Declaration] = {}
        self.assertions: list[ast.Assertion] = []
        self._dropped: set[Key] = set()

    def apply(self, entries: Iterable[ast.Entry], expand: Expand, *, forgiving: bool) -> None:
        """Put entries on top.  A `forgiving` layer may override what a later model dropped."""
        for entry in entries:
            match entry:
                case ast.Declaration():
                    self._declare(entry, expand, forgiving)
                case ast.Drop():
                    self._drop(entry)
                case ast.Assertion():
                    self.assertions.append(entry)

    def _declare(self, entry: ast.Declaration, expand: Expand, forgiving: bool) -> None:
        key = (entry.form, entry.name.text)
        self._check_attributes(entry)
        earlier = self.declarations.get(key)
        if entry.mode == "override":
            if earlier is not None:
                self.declarations[key] = merge(earlier, expand(entry))
            elif not (forgiving and key in self._dropped) and not self.may_declare(key[1]):
                self.diagnostics.add(self._nothing(entry))
        elif earlier is not None:
            self.diagnostics.add(errors.collision(entry, earlier.name))
        else:
            self.declarations[key] = expand(entry)

    def _nothing(self, entry: ast.Declaration) -> errors.Diagnostic:
        name = entry.name.text
        other = next((d for (_, known), d in self.declarations.items() if known == name), None)
        return errors.nothing_to_override(entry, self._names(entry.form), other)

    def _drop(self, entry: ast.Drop) -> None:
        key = (entry.form, entry.name.text)
        if self.declarations.pop(key, None) is not None:
            self._dropped.add(key)
        elif not self.may_declare(key[1]):
            self.diagnostics.add(errors.nothing_to_drop(entry, self._names(entry.form)))

    def _names(self, form: str) -> list[str]:
        return [name for known, name in self.declarations if known == form]

    def _check_attributes(self, entry: ast.Declaration) -> None:
        seen: dict[str, ast.Attribute] = {}
        for attribute in entry.attributes:
            earlier = seen.setdefault(attribute.name.text, attribute)
            if earlier is not attribute:
                self.diagnostics.add(errors.attribute_twice(attribute, earlier))


def merge(base: ast.Declaration, over: ast.Declaration) -> ast.Declaration:
    """`over` on top of `base`: a head replaces the head, attributes and rows replace their like.

    A head of another kind leaves behind what only the old kind has.
    """
    changed = {entry.name.text: entry for entry in over.attributes}
    kept = tuple(changed.pop(entry.name.text, entry) for entry in _lasting(base, over))
    return replace(
        base,
        clauses=over.clauses or base.clauses,
        attributes=kept + tuple(changed.values()),
        rows=merge_rows(base.rows, over.rows),
        damaged=base.damaged or over.damaged,
    )


def _lasting(base: ast.Declaration, over: ast.Declaration) -> Iterator[ast.Attribute]:
    """The attributes of `base` that an override keeps."""
    before, after = kind_of(base), kind_of(over)
    if after is None or after == before:
        return iter(base.attributes)
    form = FORMS[base.form]
    lost = {row.name for row in form.attributes_of(before)}
    lost -= {row.name for row in form.attributes_of(after)}
    return (entry for entry in base.attributes if entry.name.text not in lost)


def merge_rows(
    base: tuple[ast.Sees | ast.Order, ...], over: tuple[ast.Sees | ast.Order, ...]
) -> tuple[ast.Sees | ast.Order, ...]:
    """Rows of `over` take their subjects out of the rows of `base`."""
    seeing = {subject for row in over if isinstance(row, ast.Sees) for subject in row.subjects}
    ordered = {row.subject for row in over if isinstance(row, ast.Order)}
    kept: list[ast.Sees | ast.Order] = []
    for row in base:
        if isinstance(row, ast.Order):
            kept += [] if row.subject in ordered else [row]
            continue
        subjects = tuple(subject for subject in row.subjects if subject not in seeing)
        kept += [replace(row, subjects=subjects)] if subjects else []
    return (*kept, *over)
