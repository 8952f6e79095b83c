"""Spaces of layouts: some of a trunk's tokens, or several copies of all of them, in one pass.

The copies stand one behind the other, each with all groups of the trunk; the rows of the layout's
own attend speak of `clean` or `clean.camera`.  Numbers that a layout draws anew at every step have
their values at inference here, and are named as what the mask depends on at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from wmdsl.check.model import Attend, Layout, Model, Rule, TokenGroup
from wmdsl.plan.masks import attention_rows
from wmdsl.plan.nodes import Mask, Placed, Space
from wmdsl.plan.ranges import Rows, most_ranges, pairs
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
    copied = copied_space(model, space, layout, attend)
    rows, tokens = copied.ranges, copied.tokens
    used = tuple(name for name in drawn_numbers(model)
                 if re.search(rf"\b{name}\b", _written(attend, model)))  # fmt: skip
    return Mask(tokens, pairs(rows) / tokens**2, most_ranges(rows), rows, used)


def copied_space(
    model: Model, space: Space, layout: Layout, attend: ast.Declaration | None
) -> Space:
    """The space with every group of the layout's trunk once for each copy, `noisy.camera.now`.

    Without an attend of the layout every token sees all.
    """
    placed = tuple(_laid_out(space, layout))
    merged = layout_attend(model, space, placed, attend) if attend else None
    rows = Rows(lambda: attention_rows(model, placed, merged, causal=False))
    return replace(space, groups=placed, tokens=placed[-1].end, rows=rows)


def layout_attend(
    model: Model, space: Space, placed: Sequence[Placed], attend: ast.Declaration
) -> Attend:
    """Rows and orders of a layout, then the orders of its space, drawn numbers as at inference."""
    drawn = drawn_numbers(model)
    rules = tuple(_rule(row, placed, drawn) for row in attend.rows if isinstance(row, ast.Sees))
    own = (row for row in attend.rows if isinstance(row, ast.Order))
    orders = tuple(replace(row, key=_settled(row.key, drawn)) for row in own)
    base = model.attends.get(space.name)
    return Attend(space.name, rules, orders + (base.orders if base else ()), attend.span)


def arranged(
    model: Model, spaces: tuple[Space, ...], targets: Sequence[str]
) -> tuple[Space, ...]:
    """Live spaces of a question as the layout that predicts the same has shown them.

    Nothing changes where there is no such layout, or where it leaves out a future that is given.
    """
    for layout in model.layouts.values():
        if layout.copies or not set(targets) <= set(layout.predicted):
            continue
        names = {reference.partition("[")[0] for reference in layout.tokens}
        inside = [placed for space in spaces for placed in space.of_trunk(layout.trunk)]
        left = [placed for placed in inside if placed.group.name not in names]
        if all(placed.group.segment and placed.group.segment.observed for placed in left):
            return tuple(arranged_space(space, layout) for space in spaces)
    return spaces


def arranged_space(space: Space, layout: Layout) -> Space:
    """The space with the tokens of a layout alone; of a sliced group those of its samples."""
    cut = dict(_cut(space, layout))
    groups, spans, place = [], [], 0
    for placed in space.groups:
        name = placed.group.name
        first, frames = cut.get(name, (0, placed.group.frames))
        if placed.group.trunk == layout.trunk and name not in (*layout.tokens, *cut):
            continue
        group = replace(placed.group, frames=frames)
        offset = first * group.per_frame
        spans.append((placed.start + offset, placed.start + offset + group.count))
        groups.append(Placed(group, place, offset))
        place += group.count
    rows = space.rows.among(tuple(spans))
    return replace(space, groups=tuple(groups), tokens=place, rows=rows)


def _cut(space: Space, layout: Layout) -> Iterator[tuple[str, tuple[int, int]]]:
    """(group, (first frame, frames)) for each slice of a segment in a layout."""
    for reference in layout.tokens:
        name, _, bounds = reference.partition("[")
        for placed in space.of_trunk(layout.trunk):
            if bounds and placed.group.name == name:
                low, high = map(int, bounds.rstrip("]").split(".."))
                yield name, _frames(placed.group, low, high)


def _frames(group: TokenGroup, low: int, high: int) -> tuple[int, int]:
    """First frame and number of frames of the samples from `low` to `high`."""
    first = low * group.frames // group.segment.length
    return first, (high + 1) * group.frames // group.segment.length - first


def _written(attend: ast.Declaration, model: Model) -> str:
    """All rows that shape the mask, as written."""
    orders = (order.span.text for base in model.attends.values() for order in base.orders)
    return "\n".join((attend.span.text, *orders))


def drawn_numbers(model: Model) -> Mapping[str, ast.Number]:
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
                placed.append(Placed(replace(entry.group, name=full, copy=copy), start))
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
