"""The passes of training: one for each layout, or a single one.

In a layout some segments are predicted; other generated segments that stand in it are given clean.
A layout with copies holds its trunk's tokens several times.  One copy predicts: the only one that
no other token sees.  The others hold the data, noised again now and then where the layout says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from wmdsl.check.model import Layout, Model
from wmdsl.plan.layouts import arranged_space, copied_space, drawn_numbers
from wmdsl.plan.nodes import Drawn, Pass, Renoised, Space, Training
from wmdsl.plan.roles import generates_by_segment
from wmdsl.plan.sources import sources_of
from wmdsl.syntax import ast

GroupName = tuple[str, str]
ALWAYS = (Fraction(0), Fraction(1))


def trainings(model: Model, train: Pass) -> tuple[Training, ...]:
    """What a training step evaluates; the shares of the layouts add up to 1."""
    generated = tuple(generates_by_segment(model))
    if not model.layouts:
        return (Training("", train, generated, Fraction(1), model.span),)
    total = sum(layout.share for layout in model.layouts.values())
    return tuple(
        _training(model, train, layout, layout.share / total) for layout in model.layouts.values()
    )


def _training(model: Model, train: Pass, layout: Layout, share: Fraction) -> Training:
    attend = model.declarations.get(f"attend {layout.name}")
    spaces = tuple(_space(model, space, layout, attend) for space in train.spaces)
    copy = _predicting(spaces, layout)
    predicted = layout.predicted or tuple(generates_by_segment(model))
    roles = {
        placed.key: _role(model, train, layout, placed.group.base, placed.key, copy, predicted)
        for space in spaces
        for placed in space.groups
    }
    return Training(
        name=layout.name,
        evaluation=Pass(f"train.{layout.name}", spaces, roles),
        predicted=predicted,
        share=share,
        span=layout.span,
        copy=copy,
        renoised=tuple(_renoised(layout, spaces)),
        drawn=tuple(_drawn(model, layout)),
        data=sources_of(layout),
    )


def _space(
    model: Model, space: Space, layout: Layout, attend: ast.Declaration | None
) -> Space:
    if layout.trunk not in space.trunks:
        return space
    if layout.copies:
        return copied_space(model, space, layout, attend)
    return arranged_space(space, layout)


def _predicting(spaces: tuple[Space, ...], layout: Layout) -> str:
    """The copy that no token of another copy or trunk sees; "" where there is not just one."""
    read = {
        key.group.copy
        for space in spaces
        for query, key in _seen(space)
        if key.group.copy and query.group.copy != key.group.copy
    }
    left = [copy for copy in layout.copies if copy not in read]
    return left[0] if len(left) == 1 else ""


def _seen(space: Space) -> Iterator[tuple]:
    """(query, key) groups of which some token sees some token."""
    for query_start, query_end, key_start, key_end in space.ranges:
        for query in space.groups:
            if query.start < query_end and query_start < query.end:
                for key in space.groups:
                    if key.start < key_end and key_start < key.end:
                        yield query, key


def _role(
    model: Model,
    train: Pass,
    layout: Layout,
    base: str,
    key: GroupName,
    copy: str,
    predicted: tuple[str, ...],
) -> str:
    """The role of a group in the layout; what it does not predict it gives."""
    trunk, name = key
    trained = train.roles[trunk, base]
    if base not in generates_by_segment(model) or trained in ("learned", "prefix", "handed"):
        return trained
    elsewhere = layout.copies and trunk == layout.trunk and not name.startswith(f"{copy}.")
    return trained if base in predicted and not elsewhere else "clean"


def _renoised(layout: Layout, spaces: tuple[Space, ...]) -> Iterator[Renoised]:
    """`clean.camera 0.5 within 0..0.5`."""
    groups = [placed.group for space in spaces for placed in space.groups]
    for item in layout.attributes["renoise"] or ():
        path, chance, *rest = item.terms
        words = path.path
        named = tuple(
            (group.trunk, group.name)
            for group in groups
            if tuple(group.name.split("."))[: len(words)] == words
        )
        low, high = (rest[1].low, rest[1].high) if rest else ALWAYS
        yield Renoised(named, chance.value, Fraction(low), Fraction(high), item.span)


def _drawn(model: Model, layout: Layout) -> Iterator[Drawn]:
    for item in layout.attributes["draw"] or ():
        name, value, _, within = item.terms
        if name.dotted in drawn_numbers(model):
            yield Drawn(name.dotted, int(within.low), int(within.high), value.span)
