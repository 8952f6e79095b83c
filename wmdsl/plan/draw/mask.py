"""Who sees whom, as a picture: rows are queries, columns are keys."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from wmdsl.plan.draw.element import Element, element, write
from wmdsl.plan.draw.layered import spread
from wmdsl.plan.draw.palette import FAINT, INK, LINE, TRUNK_COLOURS
from wmdsl.plan.nodes import Pass, Space
from wmdsl.plan.quantities import percent

FULL, PART, NONE = "██", "▒▒", "··"


def shares_seen(space: Space) -> list[list[float]]:
    """The visible share of the pairs of every two groups, query by query."""
    starts = [placed.start for placed in space.groups]
    bounds = [(placed.start, placed.end) for placed in space.groups]

    def parts(start: int, end: int) -> list[tuple[int, int]]:
        """(group, tokens) of the groups that share tokens with a range."""
        touched = range(bisect_right(starts, start) - 1, bisect_left(starts, end))
        return [(at, min(end, bounds[at][1]) - max(start, bounds[at][0])) for at in touched]

    seen = [[0] * len(starts) for _ in starts]
    for query_start, query_end, key_start, key_end in space.ranges:
        keys = parts(key_start, key_end)
        for query, queries in parts(query_start, query_end):
            for key, count in keys:
                seen[query][key] += queries * count
    counts = [placed.group.count for placed in space.groups]
    return [
        [pairs / (query * key) for pairs, key in zip(row, counts, strict=True)]
        for row, query in zip(seen, counts, strict=True)
    ]


def mask_text(spaces: Sequence[Space]) -> str:
    """One block picture for each space: ██ all pairs, ▒▒ some, ·· none."""
    return "\n\n".join("\n".join(_picture(space)) for space in spaces)


def _picture(space: Space) -> Iterator[str]:
    names = [f"{placed.group.name} {placed.group.count}" for placed in space.groups]
    wide = max(len(name) for name in names)
    numbers = [f"{index:<2}" for index in range(1, len(names) + 1)]
    yield f"{title(space)}"
    yield f"     {'':{wide}}  {' '.join(numbers)}".rstrip()
    for number, name, shares in zip(numbers, names, shares_seen(space), strict=True):
        yield f"  {number:>2} {name:{wide}}  {' '.join(map(_cell, shares))}"


def _cell(share: float) -> str:
    if share == 0:
        return NONE
    return FULL if share == 1 else PART


def title(space: Space) -> str:
    """`experts: 114 tokens, 76.2 % of pairs`."""
    seen = percent(space.rows.pairs / space.tokens**2)
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
