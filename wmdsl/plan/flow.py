"""The information-flow graph of a model, as it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from wmdsl.check.codecs import TIME
from wmdsl.check.model import Condition, Cross, Extern, Generate, Model, TokenSource
from wmdsl.plan.nodes import Placed, Space
from wmdsl.plan.reach import Graph, Link, Node, aligned, feature, hidden, predicted, segment
from wmdsl.plan.roles import carries_data, generates_by_segment, noise_hides, training_roles
from wmdsl.plan.spaces import PREFIXES, rule_span, training_spaces, visible_groups
from wmdsl.record import record
from wmdsl.source import Span

GroupName = tuple[str, str]
Sight = tuple[Placed, Placed]  # a query group and another one, of which it sees tokens


@record
class Flow:
    """A model with what is derived from it once: its spaces, the roles of training, the graph.

    `generates`, and the externs that compute a future, are by segment reference.  In `deployed`
    what is handed over, or taken by an extern, comes from its prediction.
    """

    model: Model
    spaces: tuple[Space, ...]
    roles: Mapping[GroupName, str]
    generates: Mapping[str, Generate]
    externs: Mapping[str, Extern]
    graph: Graph
    sights: Mapping[str, tuple[Sight, ...]]  # by space name

    @classmethod
    def of(cls, model: Model) -> Flow:
        spaces, roles = training_spaces(model), training_roles(model)
        by_name = {space.name: space for space in spaces}
        sights = {name: visible_groups(model, space) for name, space in by_name.items()}
        graph = Graph.of(dict.fromkeys(_links(model, spaces, sights, roles)))
        externs = {part.reference: extern for extern in model.externs.values()
                   for part in extern.gives}  # fmt: skip
        return cls(model, spaces, roles, generates_by_segment(model), externs, graph, sights)

    def deployed(self) -> Graph:
        """The graph with the links of every hand from prediction to reader."""
        links = (link for links in self.graph.incoming.values() for link in links)
        return Graph.of((*links, *_handed(self.model)))


def _links(
    model: Model,
    spaces: Sequence[Space],
    sights: Mapping[str, Sequence[Sight]],
    roles: Mapping[GroupName, str],
) -> Iterator[Link]:
    yield from _slices(model)
    for space in spaces:
        yield from _inputs(space, roles)
        yield from _attention(model, space, sights[space.name])
    for cross in model.crosses.values():
        yield from _cross(model, spaces, cross)
    for condition in model.conditions.values():
        yield from _condition(model, spaces, condition)
    for generate in model.generates.values():
        yield from _predictions(model, generate)
    for extern in model.externs.values():
        yield from _computed(extern)
    for align in model.aligns.values():
        for node in _read(model, (align.source,)):
            yield Link(node, aligned(align.name), f"is read by align {align.name}", align.span)


def _slices(model: Model) -> Iterator[Link]:
    """`clip.future[0..3]` is a part of `clip.future`."""
    for reference in sliced(model):
        whole = reference.partition("[")[0]
        yield Link(segment(whole), segment(reference), "contains it", None)


def sliced(model: Model) -> Iterator[str]:
    """References of parts of segments that stand in some trunk."""
    groups = (group for trunk in model.trunks.values() for group in trunk.groups)
    return (reference for group in groups if "[" in (reference := group.segment.reference))


def _inputs(space: Space, roles: Mapping[GroupName, str]) -> Iterator[Link]:
    """segment -> codec -> token group, for tokens that hold data."""
    for placed in space.groups:
        group, role = placed.group, roles[placed.key]
        if not carries_data(role) or (role == "noisy" and noise_hides(space.time)):
            continue
        reference = group.segment.reference
        read = feature(group.codec, reference)
        how = f"stands in {group.trunk} as {group.codec}({group.name})"
        yield Link(segment(reference), read, f"is read by {group.codec}", None)
        yield Link(read, hidden(placed.key, 0, space.time), how, group.span)


def _attention(model: Model, space: Space, sights: Iterable[Sight]) -> Iterator[Link]:
    """Block by block: each group keeps its own state and takes in what it sees."""
    seen = [
        (key.key, query.key, f"is seen by {query.group.name} in {space.name}",
         rule_span(model, space, query.key, key.key))
        for query, key in sights
    ]  # fmt: skip
    for layer in range(space.layers):
        for placed in space.groups:
            here, above = (hidden(placed.key, at, space.time) for at in (layer, layer + 1))
            yield Link(here, above, "stays", None)
        for key, query, how, span in seen:
            target = hidden(query, layer + 1, space.time)
            yield Link(hidden(key, layer, space.time), target, how, span)


def _read(model: Model, sources: Iterable[TokenSource]) -> Iterator[Node]:
    """The nodes that a coupling reads."""
    for source in sources:
        if source.segment is not None:
            yield feature(source.codec or "", source.segment.reference)
            continue
        trunk = model.trunks[source.trunk or ""]
        layer = trunk.layers if source.layer is None else source.layer
        for name in source.groups or tuple(group.name for group in trunk.groups):
            yield hidden((trunk.name, name), layer, source.time)


def _encoded(sources: Iterable[TokenSource], by: str) -> Iterator[Link]:
    """segment -> codec, where a coupling reads a segment that need not be tokens anywhere.

    A noise level says nothing of the segment's value.
    """
    for source in sources:
        if source.segment is not None and source.codec != TIME:
            reference = source.segment.reference
            read = feature(source.codec or "", reference)
            yield Link(segment(reference), read, f"is read by {by}", source.span)


def _cross(model: Model, spaces: Sequence[Space], cross: Cross) -> Iterator[Link]:
    by = f"cross {cross.name}"
    yield from _encoded(cross.sources, by)
    layers = tuple(layer + 1 for layer in cross.layers)
    reads = [(_read(model, cross.sources), layers)]
    if cross.paired:
        (source,) = cross.sources
        reads = [(_read(model, (replace(source, layer=at),)), (at,)) for at in layers]
    for sources, into in [(tuple(nodes), into) for nodes, into in reads]:
        for trunk in cross.targets:
            names = tuple((trunk, group.name) for group in model.trunks[trunk].groups)
            yield from _into(spaces, sources, names, into, by, cross.span)


def _condition(model: Model, spaces: Sequence[Space], condition: Condition) -> Iterator[Link]:
    by = f"condition {condition.name}"
    yield from _encoded(condition.sources, by)
    sources = tuple(_read(model, condition.sources))
    if condition.trunk is None:
        yield from _into_codec(model, sources, condition)
        return
    trunk = model.trunks[condition.trunk]
    groups = condition.target_groups or tuple(group.name for group in trunk.groups)
    names = tuple((trunk.name, name) for name in groups)
    blocks = tuple(range(1, trunk.layers + 1))
    for mechanism in condition.mechanisms:
        if mechanism in PREFIXES:
            token = ((trunk.name, condition.name),)
            yield from _into(spaces, sources, token, (0,), by, condition.span)
        else:
            layers = (0,) if mechanism in ("film", "channel") else blocks
            yield from _into(spaces, sources, names, layers, by, condition.span)


def _into(
    spaces: Sequence[Space],
    sources: Iterable[Node],
    groups: Sequence[GroupName],
    layers: Sequence[int],
    by: str,
    span: Span,
) -> Iterator[Link]:
    """From every source into the states of groups at some layers, in every pass of their trunk."""
    trunk = groups[0][0]
    times = [space.time for space in spaces if trunk in space.trunks]
    for source in sources:
        for group in groups:
            how = f"is read by {group[1]} through {by}"
            for layer in layers:
                for time in times:
                    yield Link(source, hidden(group, layer, time), how, span)


def _into_codec(model: Model, sources: Iterable[Node], condition: Condition) -> Iterator[Link]:
    """A conditioned codec: every feature that it puts out depends on the sources."""
    codec = condition.codec or ""
    groups = (group for trunk in model.trunks.values() for group in trunk.groups)
    read = sorted({group.segment.reference for group in groups if group.codec == codec})
    for source in sources:
        for reference in read:
            how = f"conditions codec {codec}"
            yield Link(source, feature(codec, reference), how, condition.span)


def _predictions(model: Model, generate: Generate) -> Iterator[Link]:
    for name in generate.groups:
        trunk = model.trunks[name[0]]
        group = trunk.group(name[1])
        reference = group.segment.reference
        how = f"predicts {reference} by {generate.objective}"
        yield Link(hidden(name, trunk.layers), predicted(reference), how, generate.span)


def _computed(extern: Extern) -> Iterator[Link]:
    for given in extern.gives:
        for taken in extern.takes:
            how = f"computes {given.reference} in extern {extern.name}"
            yield Link(segment(taken.reference), predicted(given.reference), how, extern.span)


def _handed(model: Model) -> Iterator[Link]:
    for extern in model.externs.values():
        for taken in extern.takes:
            reference, how = taken.reference, f"is taken by extern {extern.name}"
            yield Link(predicted(reference), segment(reference), how, extern.span)
    for hand in model.hands.values():
        reference = hand.segment.reference
        how = f"is handed to {hand.trunk}"
        yield Link(predicted(reference), segment(reference), how, hand.span)
