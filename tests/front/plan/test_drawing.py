"""The layout of the coupling graph: nothing overlaps, wires run from side to side."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.front.plan.specs import example
from tests.rules import ROOT
from wmdsl.plan.draw import drawing_of
from wmdsl.plan.draw.drawing import Drawing, Node, Wire
from wmdsl.plan.draw.layered import Box, lay_out, spread


def apart(left: Box, right: Box) -> bool:
    beside = left.x + left.width <= right.x or right.x + right.width <= left.x
    return beside or left.y + left.height <= right.y or right.y + right.height <= left.y


def check(drawing: Drawing) -> None:
    layout = lay_out(drawing)
    for one, other in combinations(layout.boxes.values(), 2):
        assert apart(one, other)
    for box in layout.boxes.values():
        assert box.x >= 0 and box.y >= 0
        assert box.x + box.width <= layout.width and box.y + box.height <= layout.height
    for wire, points in layout.routes.items():
        ends = layout.boxes[wire.source], layout.boxes[wire.target]
        for (x, y), box in zip((points[0], points[-1]), ends, strict=True):
            assert x in (box.x, box.x + box.width) and box.y <= y <= box.y + box.height
        level = [(y, next_y) for (x, y), (next_x, next_y) in pairwise(points[1:-1])][::2]
        assert all(y == next_y for y, next_y in level)


@pytest.mark.parametrize("path", ["paradigms/idm.wm", "hybrids/mot_latent.wm", "atlas/vla_jepa.wm"])
def test_examples(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    drawing = drawing_of(example(path))
    check(drawing)
    assert {"segment", "trunk", "head"} <= {node.kind for node in drawing.nodes}


@st.composite
def drawings(draw) -> Drawing:
    """Any graph without cycles: wires go from earlier to later nodes."""
    names = [f"node {index}" for index in range(draw(st.integers(2, 9)))]
    nodes = tuple(
        Node(name, draw(st.sampled_from(["segment", "trunk", "head"])), name,
             ("line",) * draw(st.integers(0, 3)), "pixel")
        for name in names
    )  # fmt: skip
    ends = st.tuples(st.sampled_from(names), st.sampled_from(names))
    chosen = draw(st.lists(ends.filter(lambda pair: pair[0] < pair[1]), min_size=1, unique=True))
    wires = tuple(Wire(source, target, "", "pixel") for source, target in chosen)
    return Drawing("any", nodes, wires, ())


@settings(max_examples=40, deadline=None)
@given(drawings())
def test_any_graph(drawing):
    check(drawing)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8), st.floats(0, 20))
def test_spread_keeps_order_and_distance(wished, gap):
    tops = spread(wished, [10.0] * len(wished), gap)
    assert all(below - above >= 10 + gap - 1e-6 for above, below in pairwise(tops))
