"""Several cameras in one stream: their columns, and where their frames stand.

On a canvas the frames of the views fill one frame of the stream, left to right and row by row.
Arranged as tokens or channels every view is a frame of the stream's own size, and what a codec
makes of each of them stands side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from wmdsl.check import errors
from wmdsl.check.model import View
from wmdsl.check.scope import Draft, Mistake, Values
from wmdsl.syntax import ast
from wmdsl.vocabulary import FORMS

CANVAS = "canvas"
Size = tuple[int, int]  # height, width


def build_views(
    draft: Draft, declaration: ast.Declaration, values: Values, shape: tuple[int, ...]
) -> tuple[View, ...]:
    """The views of a stream of frames; () where it has none."""
    items, arrange = values["views"], values["arrange"]
    if not items or not arrange:
        _check_pair(declaration, items, arrange)
        return ()
    if arrange == "time":
        draft.cannot_run("WM807", "views along time", declaration.attribute("arrange").span)
    names = [_name(item) for item in items]
    keys = values["key"] or tuple(names)
    if len(keys) != len(names):
        raise Mistake(errors.shapes.keys_for_views(declaration, len(keys), len(names)))
    if len(shape) < 2:
        raise Mistake(errors.shapes.views_without_frames(declaration, shape))
    places = _places(declaration, items, arrange, shape[-2:])
    return tuple(View(*entry) for entry in zip(names, keys, places, strict=True))


def _check_pair(
    declaration: ast.Declaration, items: Sequence[ast.Item] | None, arrange: str | None
) -> None:
    """Views say how they are arranged; without views there is nothing to arrange."""
    missing = "arrange" if items else "views"
    if items or arrange:
        row = next(row for row in FORMS["stream"].attributes if row.name == missing)
        raise Mistake(errors.attributes.missing_attribute(row, declaration))


def _name(item: ast.Item) -> str:
    name, *size = item.terms
    sized = not size or (len(size) == 1 and isinstance(size[0], ast.Dims))
    if not isinstance(name, ast.Reference) or not sized or size and len(size[0].values) != 2:
        raise Mistake(errors.shapes.bad_view(item))
    return name.dotted


def _places(
    declaration: ast.Declaration, items: Sequence[ast.Item], arrange: str, frame: Size
) -> list[tuple[int, int, int, int]]:
    """(top, left, height, width) of every view in a frame of the stream."""
    sizes = [item.terms[1].values if len(item.terms) > 1 else None for item in items]
    if arrange != CANVAS:
        sized = next((item for item in items if len(item.terms) > 1), None)
        if sized:
            raise Mistake(errors.shapes.view_with_size(sized, arrange))
        return [(0, 0, *frame)] * len(items)
    if not any(sizes):
        sizes = [(frame[0], frame[1] // len(items))] * len(items)
    if None in sizes:
        raise Mistake(errors.shapes.bad_view(items[sizes.index(None)]))
    places = list(_laid_out(sizes, frame[1]))
    if not _filled(places, frame):
        raise Mistake(errors.shapes.canvas_not_filled(declaration, frame))
    return places


def _laid_out(sizes: Sequence[Size], width: int) -> Iterator[tuple[int, int, int, int]]:
    """Left to right; a view that no longer fits begins the next row."""
    top = left = below = 0
    for high, wide in sizes:
        if left + wide > width:
            top, left = below, 0
        yield top, left, high, wide
        left, below = left + wide, top + high


def _filled(places: Sequence[tuple[int, int, int, int]], frame: Size) -> bool:
    """Whether the rows have even heights, full widths, and the height of the frame together."""
    rows = [list(row) for _, row in groupby(places, key=lambda place: place[0])]
    even = all(len({height for _, _, height, _ in row}) == 1 for row in rows)
    full = all(sum(width for *_, width in row) == frame[1] for row in rows)
    return even and full and sum(row[0][2] for row in rows) == frame[0]
