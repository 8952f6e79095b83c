"""Who sees whom, as a picture: rows are queries, columns are keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wmdsl.plan.draw.element import Element, element, write
from wmdsl.plan.draw.layered import spread
from wmdsl.plan.draw.palette import FAINT, INK, LINE, TRUNK_COLOURS
from wmdsl.plan.nodes import Pass, Placed, Space
from wmdsl.plan.quantities import percent
from wmdsl.plan.ranges import overlaps, pairs

FULL, PART, NONE = "██", "▒▒", "··"


def share_seen(space: Space, query: Placed, key: Placed) -> float:
    """The visible share of the pairs of two groups."""
    seen = sum(
        (min(row[1], query.end) - max(row[0], query.start))
        * (min(row[3], key.end) - max(row[2], key.start))
        for row in space.ranges
        if overlaps(row[:2], (query.start, query.end)) and overlaps(row[2:], (key.start, key.end))
    )
    return seen / (query.group.count * key.group.count)


def mask_text(spaces: Sequence[Space]) -> str:
    """One block picture for each space: ██ all pairs, ▒▒ some, ·· none."""
    return "\n\n".join("\n".join(_picture(space)) for space in spaces)


def _picture(space: Space) -> Iterator[str]:
    names = [f"{placed.group.name} {placed.group.count}" for placed in space.groups]
    wide = max(len(name) for name in names)
    numbers = [f"{index:<2}" for index in range(1, len(names) + 1)]
    yield f"{title(space)}"
    yield f"     {'':{wide}}  {' '.join(numbers)}".rstrip()
    for number, name, query in zip(numbers, names, space.groups, strict=True):
        cells = [_cell(share_seen(space, query, key)) for key in space.groups]
        yield f"  {number:>2} {name:{wide}}  {' '.join(cells)}"


def _cell(share: float) -> str:
    if share == 0:
        return NONE
    return FULL if share == 1 else PART


def title(space: Space) -> str:
    """`experts: 114 tokens, 76.2 % of pairs`."""
    seen = percent(pairs(space.ranges) / space.tokens**2)
    at = f" at noise {float(space.time):g}" if space.time is not None else ""
    return f"{space.name}{at}: {space.tokens} tokens, {seen} of pairs"


SIDE, LABEL, GAP, HEAD = 360, 130, 40, 44
TEXT_GAP = 13.0


def mask_svg(evaluation: Pass) -> str:
    """The true ranges, in token scale, one square for each space."""
    spaces = evaluation.spaces
    width = GAP + len(spaces) * (LABEL + SIDE + GAP)
    height = HEAD + SIDE + LABEL
    squares = [
        element("g", _square(space), transform=f"translate({GAP + index * (LABEL + SIDE + GAP)},0)")
        for index, space in enumerate(spaces)
    ]
    return write(element("svg", squares, xmlns="http://www.w3.org/2000/svg",
                         viewBox=f"0 0 {width} {height}", width=width, height=height,
                         font_family="Helvetica, Arial, sans-serif", font_size=11,
                         fill=INK))  # fmt: skip


def _square(space: Space) -> list[Element]:
    scale = SIDE / space.tokens
    frame = {"x": LABEL, "y": HEAD, "width": SIDE, "height": SIDE}
    heading = element("text", [title(space)], x=LABEL, y=HEAD - 22, font_size=13,
                      font_weight="bold")  # fmt: skip
    parts = [heading, element("rect", fill=FAINT, **frame)]
    parts += _rows(space, scale)
    parts += _rulers(space, scale)
    parts.append(element("rect", fill="none", stroke=INK, **frame))
    return parts


def _rows(space: Space, scale: float) -> Iterator[Element]:
    """Rows cut at the borders of groups, in the colour of the trunk that asks."""
    colours = {
        trunk: TRUNK_COLOURS[index % len(TRUNK_COLOURS)] for index, trunk in enumerate(space.trunks)
    }
    for query_start, query_end, key_start, key_end in space.ranges:
        for placed in space.groups:
            start, end = max(query_start, placed.start), min(query_end, placed.end)
            if start < end:
                yield element(
                    "rect",
                    x=LABEL + key_start * scale,
                    y=HEAD + start * scale,
                    width=(key_end - key_start) * scale,
                    height=(end - start) * scale,
                    fill=colours[placed.group.trunk],
                )


def _rulers(space: Space, scale: float) -> Iterator[Element]:
    """Borders between groups, their names at the left and below."""
    middles = [(placed.start + placed.end) * scale / 2 for placed in space.groups]
    apart = spread([middle - TEXT_GAP / 2 for middle in middles], [TEXT_GAP] * len(middles), 0.0)
    for placed, top in zip(space.groups, apart, strict=True):
        border = placed.start * scale
        if placed.start:
            yield _line(LABEL, HEAD + border, LABEL + SIDE, HEAD + border)
            yield _line(LABEL + border, HEAD, LABEL + border, HEAD + SIDE)
        place, name = top + TEXT_GAP / 2 + 4, placed.group.name
        yield element("text", [name], x=LABEL - 8, y=HEAD + place, text_anchor="end")
        turned = f"translate({LABEL + place:.1f},{HEAD + SIDE + 8}) rotate(-60)"
        yield element("text", [name], transform=turned, text_anchor="end")


def _line(x1: float, y1: float, x2: float, y2: float) -> Element:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=LINE, stroke_width=0.7)
