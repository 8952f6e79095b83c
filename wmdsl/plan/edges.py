"""The couplings as edges: who reads what, by which mechanism, at which level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from wmdsl.check.model import Codec, Hand, Model, TokenGroup, TokenSource
from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import Edge, QueryPlan

MECHANISM = {"adaln": "adaln", "adaln_per_token": "adaln", "film": "film", "prefix": "prefix"}


def edges_of(flow: Flow, policy: QueryPlan | None) -> tuple[Edge, ...]:
    """All edges; `train_only` marks those that the policy does not use."""
    found = tuple(_edges(flow))
    if policy is None or not policy.chain:
        return found
    return tuple(replace(edge, train_only=_idle(flow, policy, edge)) for edge in found)


def _edges(flow: Flow) -> Iterator[Edge]:
    model = flow.model
    for trunk in model.trunks.values():
        for group in trunk.groups:
            yield _edge(group.name, trunk.name, "concat", group_level(model, group), group.span)
    yield from _joint_edges(flow)
    for cross in model.crosses.values():
        for source in cross.sources:
            for trunk in cross.targets:
                name = source_name(source)
                edge = _edge(name, trunk, "cross_attention", source.level, cross.span)
                yield replace(edge, layers=cross.layers, stop_gradient=source.stop)
    for condition in model.conditions.values():
        target = condition.trunk or condition.codec or ""
        for source in condition.sources:
            for mechanism in condition.mechanisms:
                word = MECHANISM.get(mechanism, mechanism)
                edge = _edge(source_name(source), target, word, source.level, condition.span)
                yield replace(edge, stop_gradient=source.stop)
    for hand in model.hands.values():
        edge = _edge(hand.segment.reference, hand.trunk, "hand", hand_level(hand), hand.span)
        yield replace(edge, stop_gradient=True)
    for extern in model.externs.values():
        for taken in extern.takes if extern.gives else ():
            level = model.streams[taken.stream].level
            edge = _edge(taken.reference, extern.name, "extern", level, extern.span)
            yield replace(edge, stop_gradient=True)
    for align in model.aligns.values():
        target = f"{align.target_codec}({align.target.reference})"
        edge = _edge(source_name(align.source), target, "align", align.target_level, align.span)
        layers = () if align.source.layer is None else (align.source.layer,)
        yield replace(edge, layers=layers, stop_gradient=not align.gradient, train_only=True)


def hand_level(hand: Hand) -> str:
    """The level of what is handed over."""
    return {"frames": "pixel", "masks": "pixel", "tracks": "3d"}.get(hand.payload, "latent")


def _edge(source: str, target: str, mechanism: str, level: str, span) -> Edge:
    return Edge(source, target, mechanism, level, (), False, False, span)


def _joint_edges(flow: Flow) -> Iterator[Edge]:
    """One edge from trunk to trunk wherever the attention of a join lets tokens be read."""
    for join in flow.model.joins.values():
        space = next(space for space in flow.spaces if space.name == join.name)
        read: dict[tuple[str, str], list[TokenGroup]] = {}
        for query, key in flow.sights[space.name]:
            if query.group.trunk != key.group.trunk:
                read.setdefault((key.group.trunk, query.group.trunk), []).append(key.group)
        for (source, target), groups in read.items():
            level = deepest_level(flow.model, groups)
            edge = _edge(source, target, "joint_attention", level, join.span)
            yield replace(edge, layers=tuple(range(space.layers)))


def source_name(source: TokenSource) -> str:
    """`eyes(corner.now)`, `seer`, `seer[3]`, `seer.think`."""
    if source.segment is not None:
        reference = source.segment.reference
        return f"{source.codec}({reference})" if source.codec else reference
    place = "" if source.layer is None else f"[{source.layer}]"
    return "".join((source.trunk or "", place, *(f".{name}" for name in source.groups[:1])))


def group_level(model: Model, group: TokenGroup) -> str:
    """The level of a group's tokens: what its codec puts out, else that of its stream."""
    codec: Codec | None = model.codecs.get(group.codec)
    stream = model.streams[group.segment.stream]
    return (codec.level if codec else None) or stream.level


VISUAL = ("3d", "pixel", "latent")


def deepest_level(model: Model, groups: Iterable[TokenGroup]) -> str:
    """The level of what is read: that of visual tokens where there are any."""
    levels = [group_level(model, group) for group in groups]
    return next((level for level in VISUAL if level in levels), levels[0])


def _idle(flow: Flow, policy: QueryPlan, edge: Edge) -> bool:
    """Whether the policy query never uses an edge."""
    spaces = [space for step in policy.chain for space in step.evaluation.spaces]
    live = {placed.key for space in spaces for placed in space.groups}
    trunks = {trunk for space in spaces for trunk in space.trunks}
    match edge.mechanism:
        case "align":
            return True
        case "concat" | "hand":
            return (edge.target, edge.source) not in live
        case "joint_attention":
            return not {edge.source, edge.target} <= trunks
    return edge.target in flow.model.trunks and edge.target not in trunks
