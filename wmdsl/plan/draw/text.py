"""The coupling graph as lines of text, grouped by what reads."""

from __future__ import annotations

from collections.abc import Iterator

from wmdsl.plan.draw.drawing import Drawing, Node, Wire


def to_text(drawing: Drawing) -> str:
    return "\n".join([drawing.title, "", *_lines(drawing)]) + "\n"


def _lines(drawing: Drawing) -> Iterator[str]:
    wide = max(len(drawing.node(wire.source).title) for wire in drawing.wires)
    for node in drawing.nodes:
        into = [wire for wire in drawing.wires if wire.target == node.name]
        back = [wire for wire in drawing.wires if wire.both and wire.source == node.name]
        if not into and not back:
            continue
        yield f"{_kind(node)} {node.title}: {', '.join(node.lines)}"
        for wire in into:
            yield _line(drawing.node(wire.source), wire, wide)
        for wire in back:
            yield _line(drawing.node(wire.target), wire, wide)
        yield ""


def _kind(node: Node) -> str:
    return {"trunk": "trunk", "head": "predicts", "align": "align"}.get(node.kind, "")


def _line(source: Node, wire: Wire, wide: int) -> str:
    arrow = "╌╌▷" if wire.dashed else "──▶"
    label = f"  {wire.label}" if wire.label else ""
    return f"  {source.title:<{wide}} {arrow}{label}  [{wire.level}]"
