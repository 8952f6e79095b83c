"""Assertions of a spec, decided on the information-flow graph, with the way where one exists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wmdsl.check.model import FlowAssertion
from wmdsl.plan.flow import Flow
from wmdsl.plan.reach import Graph, Link, Node
from wmdsl.plan.refusals import at

End = tuple[str, str]


def violation(flow: Flow, graph: Graph, assertion: FlowAssertion) -> tuple[Link, ...] | str | None:
    """None where the assertion holds; else the forbidden way, or what has no way at all."""
    if assertion.verb == "see":
        return _sight(graph, assertion)
    targets = target_nodes(graph, flow, assertion.target)
    if assertion.kind == "only":
        own = Node("segment", assertion.target[1])
        allowed = {node for end in assertion.sources for node in source_nodes(graph, end)}
        others = {node for node in graph.nodes if node.kind == "segment"} - allowed - {own}
        return graph.path(sorted(others), targets)
    missing = []
    for end in assertion.sources:
        way = graph.path(source_nodes(graph, end), targets)
        if assertion.kind == "no_flow" and way:
            return way
        if assertion.kind == "flow" and way is None:
            missing.append(end[1])
    return ", ".join(missing) or None


def source_nodes(graph: Graph, end: End) -> list[Node]:
    """Where the information of an end comes in."""
    kind, name = end
    match kind:
        case "segment":
            return [Node("segment", name)]
        case "trunk":
            return [node for node in graph.nodes if node.kind == "hidden" and node.owner == name]
        case "group":
            return [node for node in graph.nodes if _is_group(node, name)]
        case _:
            return [node for node in graph.nodes if node.kind == kind and node.name == name]


def target_nodes(graph: Graph, flow: Flow, end: End) -> list[Node]:
    """Where an end takes information in: the prediction of a generated segment, else its tokens."""
    kind, name = end
    if kind == "segment" and name in flow.generates:
        return [Node("predicted", name)]
    if kind == "segment":
        return [node for node in graph.nodes if node.kind == "hidden" and node.name == name]
    return source_nodes(graph, end)


def _is_group(node: Node, name: str) -> bool:
    return node.kind == "hidden" and f"{node.owner}.{node.name}" == name


def _sight(graph: Graph, assertion: FlowAssertion) -> tuple[Link, ...] | str | None:
    """`A sees B`: some token of A attends to one of B in one step."""
    read = _tokens(graph, assertion.target)
    missing = []
    for end in assertion.sources:
        link = _one_step(graph, _tokens(graph, end), read)
        if assertion.kind == "no_flow" and link:
            return (link,)
        if assertion.kind == "flow" and link is None:
            missing.append(end[1])
    if assertion.kind == "only":
        allowed = {node for end in assertion.sources for node in _tokens(graph, end)}
        others = {node for node in graph.nodes if node.kind == "hidden"} - allowed - read
        link = _one_step(graph, others, read)
        return (link,) if link else None
    return ", ".join(missing) or None


def _tokens(graph: Graph, end: End) -> set[Node]:
    kind, name = end
    if kind == "segment":
        return {node for node in graph.nodes if node.kind == "hidden" and node.name == name}
    return set(source_nodes(graph, end))


def _one_step(graph: Graph, readers: Iterable[Node], read: set[Node]) -> Link | None:
    """A link from a token that is read into the state of another group."""
    return next(
        (
            link
            for reader in sorted(readers, key=_place)
            for link in graph.incoming.get(reader, ())
            if link.source in read and link.source.group != reader.group
        ),
        None,
    )


def _place(node: Node) -> tuple[str, str, int]:
    return node.owner, node.name, node.layer


def told(way: Sequence[Link]) -> list[str]:
    """A way as lines, one for each place where information changes hands."""
    return [
        f"{_shown(link.source)} {link.how}" + (f" ({at(link.span)})" if link.span else "")
        for link in way
        if link.how != "stays"
    ]


def _shown(node: Node) -> str:
    if node.kind == "feature":
        return f"{node.owner}({node.name})" if node.owner else node.name
    return f"the prediction of {node.name}" if node.kind == "predicted" else node.name
