"""The coupling graph as a mermaid flowchart, for READMEs and issues."""

from __future__ import annotations

from collections.abc import Iterator

from wmdsl.plan.draw.drawing import Drawing, Node, Wire
from wmdsl.plan.draw.palette import level_colour, tint

SHAPES = {"segment": ("[", "]"), "trunk": ("([", "])"), "head": ("[", "]"), "align": ("{{", "}}")}


def to_mermaid(drawing: Drawing) -> str:
    names = {node.name: f"n{index}" for index, node in enumerate(drawing.nodes)}
    clustered = {name for _, members in drawing.clusters for name in members}
    lines = ["---", f"title: {drawing.title}", "---", "flowchart LR"]
    lines += [f"  {_node(names, n)}" for n in drawing.nodes if n.name not in clustered]
    for index, (title, members) in enumerate(drawing.clusters):
        lines.append(f'  subgraph join{index}["join {title}"]')
        lines += [f"    {_node(names, drawing.node(member))}" for member in members]
        lines.append("  end")
    lines += [f"  {_wire(names, wire)}" for wire in drawing.wires]
    lines += [f"  {style}" for style in _styles(names, drawing)]
    return "\n".join(lines) + "\n"


def _node(names: dict[str, str], node: Node) -> str:
    opening, closing = SHAPES[node.kind]
    text = "<br/>".join((f"<b>{_escaped(node.title)}</b>", *map(_escaped, node.lines)))
    return f'{names[node.name]}{opening}"{text}"{closing}'


def _wire(names: dict[str, str], wire: Wire) -> str:
    line = "-.->" if wire.dashed else "-->"
    line = f"<{line}" if wire.both else line
    label = f'|"{_escaped(wire.label)}"|' if wire.label else ""
    return f"{names[wire.source]} {line}{label} {names[wire.target]}"


def _styles(names: dict[str, str], drawing: Drawing) -> Iterator[str]:
    for level in dict.fromkeys(node.level for node in drawing.nodes):
        colour = level_colour(level)
        members = ",".join(names[node.name] for node in drawing.nodes if node.level == level)
        yield f"classDef {_class(level)} fill:{tint(colour)},stroke:{colour},color:#22262b"
        yield f"class {members} {_class(level)}"


def _class(level: str) -> str:
    return f"level_{level}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
