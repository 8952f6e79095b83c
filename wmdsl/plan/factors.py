"""The factorisation of the density that the graph realises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wmdsl.plan.asked import VISUAL_LEVELS
from wmdsl.plan.flow import Flow
from wmdsl.plan.reach import aligned, predicted, segment


def factorisation(flow: Flow) -> str:
    """`p(o'|o,l) p(a|o,o',l)`; what reads each other's values stands in one factor.

    o observed, o' the future seen, z' its features, a actions, l language; other streams by name.
    Actions that nothing predicts are given.
    """
    parts = _parts(flow)
    reads = {
        part: {other for other in parts if other != part and _reads(flow, parts[part], other)}
        for part in parts
    }
    factors = []
    for block in _blocks(reads):
        before = {other for part in block for other in reads[part]} - set(block)
        symbols = _unique(_symbol(flow, part) for part in block)
        given = [*_observed(flow, [parts[part] for part in block])]
        given[1:1] = sorted({_symbol(flow, part) for part in before})
        condition = f"|{','.join(given)}" if given else ""
        factors.append(f"p({','.join(symbols)}{condition})")
    return " ".join(_unique(factors))


def _parts(flow: Flow) -> Mapping[str, object]:
    """Everything predicted, with the node that predicts it."""
    parts = {reference: predicted(reference) for reference in (*flow.generates, *flow.externs)}
    for align in flow.model.aligns.values():
        parts[f"{align.name}'"] = aligned(align.name)
    return parts


def _reads(flow: Flow, node, other: str) -> bool:
    """Whether the value of another predicted segment reaches a prediction."""
    return segment(other) in flow.graph.before([node])


def _blocks(reads: Mapping[str, set[str]]) -> Iterator[tuple[str, ...]]:
    """Parts that read each other together, in an order in which every block reads earlier ones."""
    deep = {part: _all_read(reads, part) for part in reads}
    done: set[str] = set()
    while len(done) < len(reads):
        for part in reads:
            block = tuple(
                other
                for other in reads
                if other == part or (other in deep[part] and part in deep[other])
            )
            if part not in done and deep[part] - set(block) <= done:
                done.update(block)
                yield block


def _all_read(reads: Mapping[str, set[str]], part: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(reads[part])
    while waiting:
        other = waiting.pop()
        if other not in seen:
            seen.add(other)
            waiting += reads[other]
    return seen


def _symbol(flow: Flow, part: str) -> str:
    if part not in (*flow.generates, *flow.externs):
        return "z'"
    stream = flow.model.streams[part.partition(".")[0]]
    if stream.modality == "action":
        return "a"
    return "o'" if stream.level in VISUAL_LEVELS else f"{stream.name}'"


def _observed(flow: Flow, nodes) -> Iterator[str]:
    """o, a and l, where an observation, an action or a text reaches the block."""
    closure = flow.graph.before(nodes)
    reached = [
        "l" if stream.modality == "language" else "o" if part.observed else "a"
        for stream in flow.model.streams.values()
        for part in stream.segments
        if stream.modality != "learned"
        and part.reference not in (*flow.generates, *flow.externs)
        and segment(part.reference) in closure
    ]
    yield from (symbol for symbol in ("o", "a", "l") if symbol in reached)


def _unique(entries) -> list[str]:
    return list(dict.fromkeys(entries))
