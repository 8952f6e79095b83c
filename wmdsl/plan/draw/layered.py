"""A small layered layout: columns by longest path, rows by barycentres, no overlaps.

Long wires pass through waypoints in the columns between, so that they never cross a box.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from wmdsl.plan.draw.drawing import Drawing, Node, Wire
from wmdsl.record import record

LETTER, TITLE_LETTER, LINE_HEIGHT = 5.7, 7.2, 15.0
PADDING, ROW_GAP, COLUMN_GAP = 11.0, 20.0, 96.0
WAYPOINT_HEIGHT = 10.0
PORT_GAP = 13.0
SWEEPS = 12


@record
class Box:
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@record
class Layout:
    """`boxes` by node name; `routes` are the points of each wire between two columns."""

    boxes: Mapping[str, Box]
    routes: Mapping[Wire, tuple[tuple[float, float], ...]]
    width: float
    height: float


def size_of(node: Node) -> tuple[float, float]:
    """Width and height that hold the node's text."""
    width = max([TITLE_LETTER * len(node.title), *(LETTER * len(line) for line in node.lines)])
    return width + 2 * PADDING, LINE_HEIGHT * (1 + len(node.lines)) + PADDING


def lay_out(drawing: Drawing) -> Layout:
    """Places for all nodes and wires."""
    columns = _columns(drawing)
    chains = {wire: _chain(wire, columns) for wire in drawing.wires if _between(wire, columns)}
    rows = _ordered(drawing, columns, chains)
    sizes = {node.name: size_of(node) for node in drawing.nodes}
    boxes = _placed(rows, sizes)
    _align(rows, boxes, chains)
    top = min(box.y for box in boxes.values())
    boxes = {n: Box(b.x, b.y - top, b.width, b.height) for n, b in boxes.items()}
    ports = _ports(chains, boxes)
    routes = {wire: _route(wire, chain, boxes, ports) for wire, chain in chains.items()}
    width = max(box.x + box.width for box in boxes.values())
    height = max(box.y + box.height for box in boxes.values())
    shown = {node.name: boxes[node.name] for node in drawing.nodes}
    return Layout(shown, routes, width, height)


def _between(wire: Wire, columns: Mapping[str, int]) -> bool:
    return columns[wire.source] != columns[wire.target]


def _columns(drawing: Drawing) -> Mapping[str, int]:
    """Longest paths from the left; joined trunks share a column, predictions nobody reads the last.

    Wires inside a cluster do not count.
    """
    cluster = {name: title for title, members in drawing.clusters for name in members}
    group = {node.name: cluster.get(node.name, node.name) for node in drawing.nodes}
    ahead: dict[str, set[str]] = {}
    for wire in drawing.wires:
        if group[wire.source] != group[wire.target]:
            ahead.setdefault(group[wire.target], set()).add(group[wire.source])
    depths: dict[str, int] = {}

    def depth(name: str, trail: tuple[str, ...]) -> int:
        if name not in depths and name not in trail:
            before = [depth(other, (*trail, name)) for other in sorted(ahead.get(name, ()))]
            depths[name] = 1 + max(before, default=-1)
        return depths.get(name, 0)

    columns = {node.name: depth(group[node.name], ()) for node in drawing.nodes}
    read = {wire.source for wire in drawing.wires}
    last = max(columns.values())
    ends = [n.name for n in drawing.nodes if n.kind in ("head", "align") and n.name not in read]
    return columns | dict.fromkeys(ends, last)


def _chain(wire: Wire, columns: Mapping[str, int]) -> tuple[str, ...]:
    """The nodes and waypoints of a wire, from left to right."""
    ends = sorted((wire.source, wire.target), key=lambda name: columns[name])
    between = range(columns[ends[0]] + 1, columns[ends[1]])
    points = [f"{wire.source} > {wire.target} > {wire.label} @ {column}" for column in between]
    return (ends[0], *points, ends[1])


def _ordered(
    drawing: Drawing, columns: Mapping[str, int], chains: Mapping[Wire, Sequence[str]]
) -> list[list[str]]:
    """Names of each column from top to bottom, with few crossings and clusters together."""
    rows: list[list[str]] = [[] for _ in range(max(columns.values()) + 1)]
    for node in drawing.nodes:
        rows[columns[node.name]].append(node.name)
    neighbours: dict[str, list[str]] = {}
    for chain in chains.values():
        first = columns[chain[0]]
        for place, name in enumerate(chain[1:-1], first + 1):
            rows[place].append(name)
        for left, right in pairwise(chain):
            neighbours.setdefault(left, []).append(right)
            neighbours.setdefault(right, []).append(left)
    cluster = {name: title for title, members in drawing.clusters for name in members}
    for sweep in range(SWEEPS):
        order = rows if sweep % 2 == 0 else rows[::-1]
        place = {name: at / max(len(row), 1) for row in rows for at, name in enumerate(row)}
        for row in order:
            _sort(row, place, neighbours, cluster)
            place |= {name: at / max(len(row), 1) for at, name in enumerate(row)}
    return rows


def _sort(
    row: list[str],
    place: Mapping[str, float],
    neighbours: Mapping[str, list[str]],
    cluster: Mapping[str, str],
) -> None:
    """Order a column by the mean place of neighbours; members of a cluster count as one."""

    def centre(names: Iterable[str]) -> float:
        around = [place[other] for name in names for other in neighbours.get(name, ())]
        own = [place[name] for name in names]
        return sum(around) / len(around) if around else sum(own) / len(own)

    members: dict[str, list[str]] = {}
    for name in row:
        members.setdefault(cluster.get(name, name), []).append(name)
    keys = {
        name: (centre(members[cluster.get(name, name)]), cluster.get(name, name), centre([name]))
        for name in row
    }
    row.sort(key=lambda name: keys[name])


def _placed(
    rows: Sequence[Sequence[str]], sizes: Mapping[str, tuple[float, float]]
) -> dict[str, Box]:
    """Boxes column by column, each column centred."""
    boxes: dict[str, Box] = {}
    x = 0.0
    for row in rows:
        measured = [(name, sizes.get(name, (0.0, WAYPOINT_HEIGHT))) for name in row]
        widest = max(width for _, (width, _) in measured)
        y = -(sum(height for _, (_, height) in measured) + ROW_GAP * (len(row) - 1)) / 2
        for name, (_, height) in measured:
            boxes[name] = Box(x, y, widest, height)
            y += height + ROW_GAP
        x += widest + COLUMN_GAP
    return boxes


def _align(
    rows: Sequence[Sequence[str]], boxes: dict[str, Box], chains: Mapping[Wire, Sequence[str]]
) -> None:
    """Pull boxes towards their neighbours as far as the order of their column allows."""
    neighbours: dict[str, list[str]] = {}
    for chain in chains.values():
        for left, right in pairwise(chain):
            neighbours.setdefault(left, []).append(right)
            neighbours.setdefault(right, []).append(left)
    for sweep in range(SWEEPS):
        for row in rows[1:] if sweep % 2 == 0 else rows[-2::-1]:
            wished = []
            for name in row:
                around = [boxes[other].middle for other in neighbours.get(name, ())]
                goal = sum(around) / len(around) if around else boxes[name].middle
                wished.append(goal - boxes[name].height / 2)
            tops = spread(wished, [boxes[name].height for name in row], ROW_GAP)
            for name, y in zip(row, tops, strict=True):
                box = boxes[name]
                boxes[name] = Box(box.x, y, box.width, box.height)


def spread(wished: Sequence[float], heights: Sequence[float], gap: float) -> list[float]:
    """Tops near the wished ones, in order and apart: blocks that collide move as one."""
    blocks: list[tuple[float, list[int]]] = []
    offsets = [0.0]
    for height in heights[:-1]:
        offsets.append(offsets[-1] + height + gap)
    for index, goal in enumerate(wished):
        blocks.append((goal - offsets[index], [index]))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (_, upper), (_, lower) = blocks[-2:]
            both = upper + lower
            mean = sum(wished[member] - offsets[member] for member in both) / len(both)
            blocks[-2:] = [(mean, both)]
    tops = [0.0] * len(wished)
    for base, members in blocks:
        for member in members:
            tops[member] = base + offsets[member]
    return tops


def _route(
    wire: Wire,
    chain: Sequence[str],
    boxes: Mapping[str, Box],
    ports: Mapping[tuple[str, str, Wire], float],
) -> tuple[tuple[float, float], ...]:
    """Points from the right side of the left box to the left side of the right box."""
    first, last = boxes[chain[0]], boxes[chain[-1]]
    points = [(first.x + first.width, ports[chain[0], "right", wire])]
    for name in chain[1:-1]:
        box = boxes[name]
        points += [(box.x, box.middle), (box.x + box.width, box.middle)]
    points.append((last.x, ports[chain[-1], "left", wire]))
    return tuple(points if chain[0] == wire.source else reversed(points))


def _ports(
    chains: Mapping[Wire, Sequence[str]], boxes: Mapping[str, Box]
) -> Mapping[tuple[str, str, Wire], float]:
    """Heights at which wires touch a side of a box, spread in the order of where they go."""
    touching: dict[tuple[str, str], list[tuple[float, int, Wire]]] = {}
    for index, (wire, chain) in enumerate(chains.items()):
        for name, side, beside in ((chain[0], "right", chain[1]), (chain[-1], "left", chain[-2])):
            touching.setdefault((name, side), []).append((boxes[beside].middle, index, wire))
    ports = {}
    for (name, side), ends in touching.items():
        box = boxes[name]
        apart = min(PORT_GAP, 0.7 * box.height / len(ends))
        top = box.middle - apart * (len(ends) - 1) / 2
        for place, (_, _, wire) in enumerate(sorted(ends, key=lambda end: end[:2])):
            ports[name, side, wire] = top + place * apart
    return ports
