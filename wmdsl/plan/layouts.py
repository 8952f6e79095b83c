"""Masks of layouts that hold several copies of a trunk's tokens in one training pass.

The copies stand one behind the other, each with all groups of the trunk; the rows of the layout's
own attend speak of `clean` or `clean.camera`.  Numbers that a layout draws anew at every step have
their values at inference here, and are named as what the mask depends on at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from wmdsl.check.model import Attend, Layout, Model, Rule
from wmdsl.plan.masks import attention_rows
from wmdsl.plan.nodes import Mask, Placed, Space
from wmdsl.plan.ranges import most_ranges, pairs
from wmdsl.plan.spaces import space_of
from wmdsl.syntax import ast

GroupName = tuple[str, str]


def layout_masks(model: Model, spaces: Sequence[Space]) -> Mapping[str, Mask]:
    """By layout name, for layouts with copies and an attend of their own."""
    attends = {name: model.declarations.get(f"attend {name}") for name in model.layouts}
    return {
        name: _mask(model, space_of(spaces, layout.trunk), layout, attends[name])
        for name, layout in model.layouts.items()
        if layout.copies and isinstance(attends[name], ast.Declaration)
    }


def _mask(model: Model, space: Space, layout: Layout, attend: ast.Declaration) -> Mask:
    drawn = _drawn(model)
    placed = _laid_out(space, layout)
    rules = tuple(_rule(row, placed, drawn) for row in attend.rows if isinstance(row, ast.Sees))
    own = (row for row in attend.rows if isinstance(row, ast.Order))
    orders = tuple(replace(row, key=_settled(row.key, drawn)) for row in own)
    base = model.attends.get(space.name)
    merged = Attend(space.name, rules, orders + (base.orders if base else ()), attend.span)
    rows = attention_rows(model, placed, merged, causal=False)
    tokens = placed[-1].end
    used = tuple(name for name in drawn if re.search(rf"\b{name}\b", _written(attend, model)))
    return Mask(tokens, pairs(rows) / tokens**2, most_ranges(rows), rows, used)


def _written(attend: ast.Declaration, model: Model) -> str:
    """All rows that shape the mask, as written."""
    orders = (order.span.text for base in model.attends.values() for order in base.orders)
    return "\n".join((attend.span.text, *orders))


def _drawn(model: Model) -> Mapping[str, ast.Number]:
    """Numbers that layouts draw, with their values at inference."""
    items = (item for layout in model.layouts.values() for item in layout.attributes["draw"] or ())
    return {item.terms[0].span.text: item.terms[1] for item in items}


def _laid_out(space: Space, layout: Layout) -> list[Placed]:
    """The groups of the space, those of the trunk once for every copy."""
    placed: list[Placed] = []
    for name in space.trunks:
        for copy in layout.copies if name == layout.trunk else ("",):
            for entry in space.of_trunk(name):
                full = f"{copy}.{entry.group.name}" if copy else entry.group.name
                start = placed[-1].end if placed else 0
                placed.append(Placed(replace(entry.group, name=full), start))
    return placed


def _rule(row: ast.Sees, placed: Sequence[Placed], drawn: Mapping[str, ast.Number]) -> Rule:
    subjects, objects = (
        tuple(name for expression in side for name in _named(expression, placed))
        for side in (row.subjects, row.objects)
    )
    relations = tuple(
        replace(part, left=_settled(part.left, drawn), right=_settled(part.right, drawn))
        for part in row.relations
    )
    return Rule(subjects, objects, relations, row.span)


def _named(expression: ast.Expression, placed: Sequence[Placed]) -> Iterator[GroupName]:
    """Groups called `clean`, `clean.camera`, `clean.camera.now`, or, without copies, `action`."""
    words = expression.path if isinstance(expression, ast.Reference) else ()
    for entry in placed:
        if tuple(entry.group.name.split("."))[: len(words)] == words:
            yield entry.key


def _settled(key: ast.Arithmetic, drawn: Mapping[str, ast.Number]) -> ast.Arithmetic:
    if isinstance(key, ast.Binary):
        return replace(key, left=_settled(key.left, drawn), right=_settled(key.right, drawn))
    return drawn.get(key.dotted, key) if isinstance(key, ast.Reference) else key
