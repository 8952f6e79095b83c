"""Attends: rows about token groups, sorted into attention spaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from wmdsl.check import errors
from wmdsl.check.model import Attend, Rule, TokenGroup
from wmdsl.check.names import GroupName, groups
from wmdsl.check.scope import Draft, Mistake
from wmdsl.syntax import ast

KEYS = ("q", "k")
PLACES = ("frame", "step", "row", "column", "scale", "token")


def spaces(draft: Draft) -> dict[str, tuple[str, ...]]:
    """Attention spaces by name: joins, and the trunks that are in none."""
    joined = {name: join.trunks for name, join in draft.joins.items() if join}
    inside = {trunk for trunks in joined.values() for trunk in trunks}
    alone = {name: (name,) for name in draft.trunks if name not in inside}
    return {**joined, **alone}


def build_attends(draft: Draft) -> None:
    """Fill `draft.attends` by space; every group of a space with an attend needs a row."""
    fine = [_attend(draft, declaration) for declaration in draft.of("attend")]
    if all(fine) and draft.sound:
        for space, attend in draft.attends.items():
            _check_covered(draft, space, attend)


def _attend(draft: Draft, declaration: ast.Declaration) -> bool:
    """Whether every row could be understood."""
    known = spaces(draft)
    name = declaration.name.text
    if name == "attend":
        return _rows(draft, declaration, known)
    layout = draft.spec.find(name, "layout")
    if layout:
        return _layout_attend(draft, declaration, layout)
    if name in known:
        return _rows(draft, declaration, {name: known[name]})
    poisoned = draft.joins.get(name, 0) is None or draft.trunks.get(name, 0) is None
    if draft.readable and not poisoned:
        draft.report(errors.names.unknown_space(declaration, known))
    return False


def _rows(draft: Draft, declaration: ast.Declaration, known: dict[str, tuple[str, ...]]) -> bool:
    fine = True
    for row in declaration.rows:
        found = draft.attempt(_row, row, known)
        fine = fine and found is not None
        for space, part in found or ():
            _add(draft, space, part, declaration)
    return fine


def _add(draft: Draft, space: str, part: Rule | ast.Order, declaration: ast.Declaration) -> None:
    before = draft.attends.get(space) or Attend(space, (), (), declaration.span)
    rules = before.rules + ((part,) if isinstance(part, Rule) else ())
    orders = before.orders + ((part,) if isinstance(part, ast.Order) else ())
    draft.attends[space] = Attend(space, rules, orders, before.span)


def _row(
    draft: Draft, row: ast.Sees | ast.Order, known: dict[str, tuple[str, ...]]
) -> list[tuple[str, Rule | ast.Order]]:
    """The row as it stands in each space that holds its subjects."""
    drawn = _drawn(draft)
    if isinstance(row, ast.Order):
        found = groups(draft, row.subject)
        _check_names(draft, (*PLACES, *drawn), "order", row.key)
        settled = replace(row, key=_settled(row.key, drawn))
        return [(space, settled) for space in _holding(found, known)]
    subjects = [(expression, groups(draft, expression)) for expression in row.subjects]
    objects = [(expression, groups(draft, expression)) for expression in row.objects]
    _check_relations(draft, row, (*KEYS, *drawn))
    relations = tuple(
        replace(part, left=_settled(part.left, drawn), right=_settled(part.right, drawn))
        for part in row.relations
    )
    if not draft.readable or None in draft.joins.values():
        raise Mistake
    return list(_distribute(replace(row, relations=relations), subjects, objects, known))


def _drawn(draft: Draft) -> dict[str, ast.Number]:
    """Numbers that layouts draw in training, with their values at inference."""
    items = (item for layout in draft.of("layout") for item in _items(layout, "draw"))
    return {
        item.terms[0].span.text: item.terms[1]
        for item in items
        if len(item.terms) > 1 and isinstance(item.terms[1], ast.Number)
    }


def _settled(key: ast.Arithmetic, drawn: dict[str, ast.Number]) -> ast.Arithmetic:
    """The arithmetic with the inference values of what is drawn."""
    if isinstance(key, ast.Binary):
        left, right = _settled(key.left, drawn), _settled(key.right, drawn)
        return replace(key, left=left, right=right)
    return drawn.get(key.dotted, key) if isinstance(key, ast.Reference) else key


Found = list[tuple[ast.Expression, tuple[TokenGroup, ...]]]


def _distribute(
    row: ast.Sees, subjects: Found, objects: Found, known: dict[str, tuple[str, ...]]
) -> Iterator[tuple[str, Rule]]:
    homes = {space for _, found in subjects for space in _holding(found, known)}
    for (subject, read), (other, seen) in product(subjects, objects):
        if not set(_holding(read, known)) & set(_holding(seen, known)):
            raise Mistake(errors.couplings.rows_across_spaces(subject, read, other, seen))
    for space in known:
        if space in homes:
            inside = [_inside(part, known[space]) for part in (subjects, objects)]
            yield space, Rule(inside[0], inside[1], row.relations, row.span)


def _inside(found: Found, trunks: tuple[str, ...]) -> tuple[GroupName, ...]:
    names = (
        (group.trunk, group.name)
        for _, listed in found
        for group in listed
        if group.trunk in trunks
    )
    return tuple(dict.fromkeys(names))


def _holding(found: tuple[TokenGroup, ...], known: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The spaces in which at least one of the groups stands."""
    trunks = {group.trunk for group in found}
    return tuple(space for space, members in known.items() if trunks & set(members))


def _check_relations(draft: Draft, row: ast.Sees, known: tuple[str, ...]) -> None:
    """`where` compares the order keys `q` and `k` with each other and with numbers."""
    for relation in row.relations:
        _check_names(draft, known, "where", relation.left, relation.right)


def _check_names(draft: Draft, known: tuple[str, ...], place: str, *sides: ast.Arithmetic) -> None:
    for name in _names(*sides):
        if name.dotted not in known and None in draft.layouts.values():
            raise Mistake
        if name.dotted not in known:
            raise Mistake(errors.attributes.unknown_word(name.span, name.dotted, place, known))


def _layout_attend(draft: Draft, declaration: ast.Declaration, layout: ast.Declaration) -> bool:
    """Rows of a layout may also speak of its copies and of the numbers it draws."""
    if draft.layouts[layout.name.text] is None:
        return False
    copies = [item.span.text for item in _items(layout, "copies")]
    fine = [draft.attempt(_layout_row, row, copies) for row in declaration.rows]
    return all(fine)


def _layout_row(draft: Draft, row: ast.Sees | ast.Order, copies: list[str]) -> bool:
    drawn = tuple(_drawn(draft))
    if isinstance(row, ast.Order):
        groups(draft, row.subject)
        _check_names(draft, (*PLACES, *drawn), "order", row.key)
        return True
    for expression in (*row.subjects, *row.objects):
        _check_copy(draft, expression, copies)
    _check_relations(draft, row, (*KEYS, *drawn))
    return True


def _items(layout: ast.Declaration, name: str) -> tuple[ast.Item, ...]:
    attribute = layout.attribute(name)
    return attribute.items if attribute else ()


def _check_copy(draft: Draft, expression: ast.Expression, copies: list[str]) -> None:
    """`clean`, `clean.camera` or a plain group."""
    if isinstance(expression, ast.Reference) and expression.path[0] in copies:
        if len(expression.path) > 1:
            rest = ast.Reference(expression.path[1:], expression.index, expression.span)
            groups(draft, rest)
        return
    groups(draft, expression)


def _names(*sides: ast.Arithmetic) -> Iterator[ast.Reference]:
    for side in sides:
        if isinstance(side, ast.Reference):
            yield side
        elif isinstance(side, ast.Binary):
            yield from _names(side.left, side.right)


def _check_covered(draft: Draft, space: str, attend: Attend) -> None:
    """Every group has a row; one that says `nothing` is the only one."""
    rows: dict[GroupName, list[Rule]] = {}
    for rule in attend.rules:
        for subject in rule.subjects:
            rows.setdefault(subject, []).append(rule)
    for trunk in spaces(draft)[space]:
        for group in draft.trunks[trunk].groups:
            found = rows.get((trunk, group.name), [])
            if not found:
                draft.report(errors.couplings.group_without_row(group, attend))
            silent = [rule for rule in found if not rule.objects]
            if silent and len(silent) < len(found):
                other = next(rule for rule in found if rule.objects)
                draft.report(errors.couplings.rows_contradict(group, silent[0], other))
