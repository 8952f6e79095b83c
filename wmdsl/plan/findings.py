"""What only the graph shows to be wrong: unanswerable queries, dead inputs, broken assertions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wmdsl.check import errors
from wmdsl.check.model import FlowAssertion, Segment
from wmdsl.diagnostics import Diagnostic
from wmdsl.plan.assertions import told, violation
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import QueryPlan
from wmdsl.plan.reach import Graph, Node, segment
from wmdsl.source import Span

LOSSES = ("predicted", "align")
ANYTHING = "anything that is predicted"


def findings(flow: Flow, queries: Mapping[str, QueryPlan]) -> Iterator[Diagnostic]:
    """Errors of a model whose parts are sound by themselves."""
    if not flow.model.trunks:
        return
    for query in queries.values():
        if query.answerable == "no":
            span = flow.model.queries[query.name].span
            yield errors.queries.not_answerable(
                span, query.name, query.because, query.blamed, query.help
            )
    yield from _dead_inputs(flow)
    for assertion in flow.model.assertions:
        yield from _broken(flow, queries, assertion)


def _dead_inputs(flow: Flow) -> Iterator[Diagnostic]:
    """Observations and conditions from which no path leads to anything that is predicted."""
    alive = flow.graph.before(node for node in flow.graph.nodes if node.kind in LOSSES)
    for stream in flow.model.streams.values():
        for part in stream.segments:
            node = segment(part.reference)
            if node in flow.graph.outgoing and node not in alive:
                yield errors.couplings.never_reaches(_read_at(flow, part), part.reference, ANYTHING)
    for name, condition in flow.model.conditions.items():
        if not any(_is_alive(flow.graph, alive, condition.span)):
            yield errors.couplings.never_reaches(condition.span, name, ANYTHING)


def _is_alive(graph: Graph, alive: frozenset[Node], span: Span) -> Iterator[bool]:
    """Whether what a coupling writes to is alive, link by link."""
    return (link.target in alive for links in graph.incoming.values() for link in links
            if link.span == span)  # fmt: skip


def _read_at(flow: Flow, part: Segment) -> Span:
    groups = (group for trunk in flow.model.trunks.values() for group in trunk.groups)
    return next((group.span for group in groups if group.segment == part), part.span)


def _broken(
    flow: Flow, queries: Mapping[str, QueryPlan], assertion: FlowAssertion
) -> Iterator[Diagnostic]:
    graph = flow.deployed()
    asked = queries.get(assertion.where or "")
    if asked is not None:
        graph = _live_graph(graph, asked)
    found = violation(flow, graph, assertion)
    if found is None:
        return
    target = assertion.target[1]
    if isinstance(found, str):
        verb = "see" if assertion.verb == "see" else "reach"
        yield errors.couplings.assertion_fails(
            assertion.span, f"{found} does not {verb} {target}", ()
        )
        return
    first = found[0].source.name
    ends = (found[0].target.name, first) if assertion.verb == "see" else (first, target)
    verb = "sees" if assertion.verb == "see" else "reaches"
    steps = tuple(zip(_spans(found), told(found), strict=True))
    yield errors.couplings.assertion_fails(assertion.span, f"{ends[0]} {verb} {ends[1]}", steps)


def _spans(way) -> list[Span | None]:
    return [link.span for link in way if link.how != "stays"]


def _live_graph(graph: Graph, asked: QueryPlan) -> Graph:
    """The graph among the tokens that live in a query."""
    live = {
        placed.key
        for step in asked.chain
        for space in step.evaluation.spaces
        for placed in space.groups
    }
    links = (link for links in graph.incoming.values() for link in links)
    return Graph.of(
        link
        for link in links
        if all(node.kind != "hidden" or node.group in live for node in (link.source, link.target))
    )
