"""The coupling graph as SVG, for papers and reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from wmdsl.plan.draw.drawing import Drawing, Node, Wire
from wmdsl.plan.draw.element import Element, element, write
from wmdsl.plan.draw.layered import LETTER, LINE_HEIGHT, PADDING, Box, Layout, lay_out
from wmdsl.plan.draw.palette import FAINT, INK, LINE, PAPER, level_colour, tint

MARGIN, HEADING, LEGEND = 24, 34, 34
Point = tuple[float, float]


def to_svg(drawing: Drawing) -> str:
    layout = lay_out(drawing)
    width = layout.width + 2 * MARGIN
    height = layout.height + 2 * MARGIN + HEADING + LEGEND
    picture = [
        *_clusters(drawing, layout),
        *(part for wire in drawing.wires for part in _wire(wire, layout)),
        *(part for node in drawing.nodes for part in _node(node, layout.boxes[node.name])),
        *(part for wire in drawing.wires for part in _label(wire, layout)),
    ]
    body = [
        _markers({wire.level for wire in drawing.wires}),
        element("rect", width=width, height=height, fill=PAPER),
        element("text", [drawing.title], x=MARGIN, y=MARGIN + 8, font_size=15, font_weight="bold"),
        element("g", picture, transform=f"translate({MARGIN},{MARGIN + HEADING})"),
        *_legend(drawing, height - MARGIN),
    ]
    return write(element("svg", body, xmlns="http://www.w3.org/2000/svg",
                         viewBox=f"0 0 {width:.0f} {height:.0f}", width=width, height=height,
                         font_family="Helvetica, Arial, sans-serif", font_size=11,
                         fill=INK))  # fmt: skip


def _markers(levels: set[str]) -> Element:
    arrows = [
        element("marker", [element("path", d="M0,0 L8,4 L0,8 z", fill=level_colour(level))],
                id=f"arrow-{level}", viewBox="0 0 8 8", refX=7, refY=4, markerWidth=7,
                markerHeight=7, orient="auto-start-reverse")
        for level in sorted(levels)
    ]  # fmt: skip
    return element("defs", arrows)


def _clusters(drawing: Drawing, layout: Layout) -> Iterator[Element]:
    """A frame around trunks that attend as one."""
    for name, members in drawing.clusters:
        boxes = [layout.boxes[member] for member in members]
        left, top = min(box.x for box in boxes) - 10, min(box.y for box in boxes) - 22
        right = max(box.x + box.width for box in boxes) + 10
        bottom = max(box.y + box.height for box in boxes) + 10
        yield element("rect", x=left, y=top, width=right - left, height=bottom - top, rx=9,
                      fill=FAINT, stroke=LINE, stroke_width=0.8,
                      stroke_dasharray="2 3")  # fmt: skip
        yield element("text", [f"join {name}"], x=left + 10, y=top + 14, font_size=10, fill=LINE)


def _node(node: Node, box: Box) -> Iterator[Element]:
    colour = level_colour(node.level)
    round_ = {"segment": 5, "trunk": 9, "head": 5, "align": 5}[node.kind]
    style = {"stroke_dasharray": "5 3"} if node.open or node.kind == "align" else {}
    yield element("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=round_,
                  fill=PAPER if node.open else tint(colour), stroke=colour,
                  stroke_width=1.8 if node.kind == "trunk" else 1.2, **style)  # fmt: skip
    y = box.y + PADDING / 2 + LINE_HEIGHT - 3
    yield element("text", [node.title], x=box.x + box.width / 2, y=y, text_anchor="middle",
                  font_size=12, font_weight="bold")  # fmt: skip
    for line in node.lines:
        y += LINE_HEIGHT
        yield element("text", [line], x=box.x + box.width / 2, y=y, text_anchor="middle")


def _wire(wire: Wire, layout: Layout) -> Iterator[Element]:
    style: dict[str, object] = {"stroke_dasharray": "5 4"} if wire.dashed else {}
    if wire.both:
        style["marker_start"] = f"url(#arrow-{wire.level})"
    yield element("path", d=_path(_points(wire, layout)), fill="none",
                  stroke=level_colour(wire.level), stroke_width=1.4,
                  marker_end=f"url(#arrow-{wire.level})", **style)  # fmt: skip


def _points(wire: Wire, layout: Layout) -> Sequence[Point]:
    """The route of a wire; inside a column it goes straight from box to box."""
    if wire in layout.routes:
        return layout.routes[wire]
    source, target = layout.boxes[wire.source], layout.boxes[wire.target]
    x = source.x + min(source.width, target.width) / 2
    if source.y < target.y:
        return ((x, source.y + source.height), (x, target.y))
    return ((x, source.y), (x, target.y + target.height))


def _path(points: Sequence[Point]) -> str:
    """A smooth line, level where it meets a box and inside the columns that it passes."""
    parts = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
    for (x, y), (next_x, next_y) in pairwise(points):
        if x == next_x or y == next_y:
            parts.append(f"L{next_x:.1f},{next_y:.1f}")
            continue
        half = (x + next_x) / 2
        parts.append(f"C{half:.1f},{y:.1f} {half:.1f},{next_y:.1f} {next_x:.1f},{next_y:.1f}")
    return " ".join(parts)


def _label(wire: Wire, layout: Layout) -> Iterator[Element]:
    """The words of a wire, on paper, near its source where wires have not yet met."""
    if not wire.label:
        return
    (x, y), (next_x, next_y) = _points(wire, layout)[:2]
    share = 0.5 if x == next_x else 0.4
    across, along = 1.5 * share * (1 - share) + share**3, share * share * (3 - 2 * share)
    at_x, at_y = x + (next_x - x) * across, y + (next_y - y) * along
    wide = LETTER * len(wire.label) + 6
    yield element("rect", x=at_x - wide / 2, y=at_y - 7, width=wide, height=14, rx=3, fill=PAPER,
                  fill_opacity=0.9)  # fmt: skip
    yield element("text", [wire.label], x=at_x, y=at_y + 3.5, text_anchor="middle", font_size=10,
                  fill=level_colour(wire.level))  # fmt: skip


def _legend(drawing: Drawing, y: float) -> Iterator[Element]:
    """The levels that occur, and what dashes mean."""
    x = float(MARGIN)
    for level in dict.fromkeys(entry.level for entry in (*drawing.nodes, *drawing.wires)):
        colour = level_colour(level)
        yield element("rect", x=x, y=y - 9, width=12, height=12, rx=3, fill=tint(colour),
                      stroke=colour)  # fmt: skip
        yield element("text", [level], x=x + 18, y=y + 1)
        x += 34 + LETTER * len(level)
    if any(wire.dashed for wire in drawing.wires):
        yield element("line", x1=x, y1=y - 3, x2=x + 26, y2=y - 3, stroke=LINE, stroke_width=1.4,
                      stroke_dasharray="5 4")  # fmt: skip
        yield element("text", ["not in the policy query"], x=x + 32, y=y + 1)
