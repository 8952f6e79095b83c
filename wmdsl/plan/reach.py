"""Information flow as a graph: from segments through codecs, tokens and blocks to predictions.

A token group has one node for each block that it has passed, so that reading layer 3 of a trunk
never claims what happens above it, and one more set of nodes for every tap that fixes the time.
Liveness, assertions, factorisation and the paradigm row are closures over this one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from wmdsl.record import record
from wmdsl.source import Span


class Node(NamedTuple):
    """segment REF, feature REF of a codec, hidden GROUP of a trunk, predicted REF, align NAME."""

    kind: str
    name: str
    owner: str = ""
    layer: int = 0
    time: Fraction | None = None

    @property
    def group(self) -> tuple[str, str]:
        """(trunk, group name) of a hidden node."""
        return self.owner, self.name


class Link(NamedTuple):
    """Information goes from `source` to `target`, because of what stands at `span`."""

    source: Node
    target: Node
    how: str
    span: Span | None


def segment(reference: str) -> Node:
    """The segment of a reference; a slice of a segment, `future[0..3]`, is read from it."""
    return Node("segment", reference.partition("[")[0])


def feature(codec: str, reference: str) -> Node:
    return Node("feature", reference, codec)


def hidden(group: tuple[str, str], layer: int, time: Fraction | None = None) -> Node:
    return Node("hidden", group[1], group[0], layer, time)


def predicted(reference: str) -> Node:
    return Node("predicted", reference)


def aligned(name: str) -> Node:
    return Node("align", name)


@record
class Graph:
    incoming: Mapping[Node, tuple[Link, ...]]
    outgoing: Mapping[Node, tuple[Link, ...]]

    @classmethod
    def of(cls, links: Iterable[Link]) -> Graph:
        incoming: dict[Node, list[Link]] = {}
        outgoing: dict[Node, list[Link]] = {}
        for link in links:
            incoming.setdefault(link.target, []).append(link)
            outgoing.setdefault(link.source, []).append(link)
        return cls(
            {node: tuple(found) for node, found in incoming.items()},
            {node: tuple(found) for node, found in outgoing.items()},
        )

    @property
    def nodes(self) -> frozenset[Node]:
        return frozenset(self.incoming) | frozenset(self.outgoing)

    def before(self, targets: Iterable[Node]) -> frozenset[Node]:
        """Everything that reaches a target, targets included."""
        return _closure(targets, lambda node: (link.source for link in self.incoming.get(node, ())))

    def after(self, sources: Iterable[Node]) -> frozenset[Node]:
        """Everything that a source reaches, sources included."""
        return _closure(sources, lambda node: (link.target for link in self.outgoing.get(node, ())))

    def path(self, sources: Iterable[Node], targets: Iterable[Node]) -> tuple[Link, ...] | None:
        """A shortest way from a source to a target; None where there is none."""
        goals = frozenset(targets)
        arrived: dict[Node, Link | None] = dict.fromkeys(sources)
        wave = list(arrived)
        while wave:
            reached = next((node for node in wave if node in goals), None)
            if reached is not None:
                return _traced(reached, arrived)
            ahead = []
            for link in (link for node in wave for link in self.outgoing.get(node, ())):
                if link.target not in arrived:
                    arrived[link.target] = link
                    ahead.append(link.target)
            wave = ahead
        return None


def _closure(
    starts: Iterable[Node], neighbours: Callable[[Node], Iterator[Node]]
) -> frozenset[Node]:
    seen = set(starts)
    waiting = list(seen)
    while waiting:
        for node in neighbours(waiting.pop()):
            if node not in seen:
                seen.add(node)
                waiting.append(node)
    return frozenset(seen)


def _traced(node: Node, arrived: Mapping[Node, Link | None]) -> tuple[Link, ...]:
    way = []
    while (link := arrived[node]) is not None:
        way.append(link)
        node = link.source
    return tuple(reversed(way))
