"""A plan as nodes and wires: segments at the left, trunks between, predictions at the right."""

from __future__ import annotations

from collections.abc import Iterator

from wmdsl.check.model import Model, Segment, TokenSource, Trunk
from wmdsl.plan.as_json import role_of, token_count
from wmdsl.plan.differences import law_text
from wmdsl.plan.edges import deepest_level, group_level
from wmdsl.plan.nodes import Plan
from wmdsl.plan.quantities import count, hertz
from wmdsl.record import record

PLAIN_CODECS = ("", "linear", "embed")
WORDS = {"adaln": "adaLN", "adaln_per_token": "adaLN per token", "film": "FiLM"}


@record
class Node:
    """`kind`: segment | trunk | head | align; `open` marks what is not data but noise or learnt."""

    name: str
    kind: str
    title: str
    lines: tuple[str, ...]
    level: str
    open: bool = False


@record
class Wire:
    """`dashed`: training only; `both`: information goes both ways."""

    source: str
    target: str
    label: str
    level: str
    dashed: bool = False
    both: bool = False


@record
class Drawing:
    """`clusters` are joins: a name and the trunks that attend as one."""

    title: str
    nodes: tuple[Node, ...]
    wires: tuple[Wire, ...]
    clusters: tuple[tuple[str, tuple[str, ...]], ...]

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)


def drawing_of(plan: Plan) -> Drawing:
    """The coupling graph of a plan."""
    model = plan.model
    wires = tuple(dict.fromkeys(_wires(plan)))
    used = {end for wire in wires for end in (wire.source, wire.target)}
    nodes = (*_segments(plan), *_trunks(plan), *_heads(model), *_aligns(model))
    title = f"{model.name}: {model.title}" if model.title else model.name
    clusters = tuple(
        (join.name, tuple(f"trunk {name}" for name in join.trunks)) for join in model.joins.values()
    )
    return Drawing(title, tuple(node for node in nodes if node.name in used), wires, clusters)


def _segments(plan: Plan) -> Iterator[Node]:
    groups = [group for trunk in plan.model.trunks.values() for group in trunk.groups]
    for stream in plan.model.streams.values():
        slices = [group.segment for group in groups if group.segment.stream == stream.name]
        for segment in dict.fromkeys((*stream.segments, *slices)):
            role = role_of(plan, segment)
            tokens = token_count(plan, segment)
            rate = f", {hertz(float(stream.rate_hz))}" if stream.rate_hz else ""
            lines = [] if role == "learned" else [f"{stream.modality}{rate}"]
            if tokens:
                lines.append(f"{role}, {tokens} token{'s' * (tokens > 1)}")
            open_ = role in ("noisy", "masked", "placeholder", "learned")
            name = f"segment {segment.reference}"
            yield Node(name, "segment", segment.reference, tuple(lines), stream.level, open_)


def _trunks(plan: Plan) -> Iterator[Node]:
    for trunk in plan.model.trunks.values():
        weights = plan.parameters.by_owner.get(f"trunk.{trunk.name}", 0)
        lines = [f"{trunk.kind}, {trunk.layers} layers", f"width {trunk.width}"]
        if trunk.heads:
            lines.append(f"{trunk.heads} x {trunk.head_dim} heads")
        lines.append(count(weights) + (" frozen" if trunk.frozen else ""))
        yield Node(
            f"trunk {trunk.name}", "trunk", trunk.name, tuple(lines), trunk_level(plan, trunk)
        )


def trunk_level(plan: Plan, trunk: Trunk) -> str:
    """Semantic for a language model, else that of what is predicted there, else of what is read."""
    if trunk.kind == "decoder":
        return "semantic"
    predicted = [
        plan.model.streams[trunk.group(name).segment.stream].level
        for generate in plan.model.generates.values()
        for owner, name in generate.groups
        if owner == trunk.name
    ]
    return predicted[0] if predicted else deepest_level(plan.model, trunk.groups)


def _heads(model: Model) -> Iterator[Node]:
    for generate in model.generates.values():
        for segment in generate.segments:
            law = f", {law_text(generate.law)}" if generate.law else ""
            lines = (f"{generate.objective}{law}", f"weight {float(generate.weight):g}")
            level = model.streams[segment.stream].level
            yield Node(f"head {segment.reference}", "head", segment.reference, lines, level)


def _aligns(model: Model) -> Iterator[Node]:
    for align in model.aligns.values():
        lines = (f"align by {align.distance}", f"weight {float(align.weight):g}")
        title = f"features of {align.target.reference}"
        yield Node(f"align {align.name}", "align", title, lines, align.target_level)


def _wires(plan: Plan) -> Iterator[Wire]:
    model = plan.model
    idle = {(edge.source, edge.target) for edge in plan.edges if edge.train_only}
    handed = {(hand.trunk, hand.segment.reference) for hand in model.hands.values()}
    for trunk in model.trunks.values():
        for group in trunk.groups:
            if (trunk.name, group.name) not in handed:
                label = "" if group.codec in PLAIN_CODECS else group.codec
                yield Wire(f"segment {group.segment.whole}", f"trunk {trunk.name}", label,
                           group_level(model, group),
                           dashed=(group.name, trunk.name) in idle)  # fmt: skip
    yield from _joints(plan)
    yield from _couplings(model)
    for hand in model.hands.values():
        label = "hand" if hand.mask == "none" else f"hand, {hand.mask} mask"
        level = model.streams[hand.segment.stream].level
        yield Wire(f"head {hand.segment.reference}", f"trunk {hand.trunk}", label, level)
    yield from _predictions(model)


def _joints(plan: Plan) -> Iterator[Wire]:
    """One wire for each pair of joined trunks, with two heads where both read."""
    edges = [edge for edge in plan.edges if edge.mechanism == "joint_attention"]
    pairs = {(edge.source, edge.target): edge for edge in edges}
    for (source, target), edge in pairs.items():
        both = (target, source) in pairs
        if not both or source < target:
            yield Wire(f"trunk {source}", f"trunk {target}", "joint attention", edge.level,
                       dashed=edge.train_only, both=both)  # fmt: skip


def _couplings(model: Model) -> Iterator[Wire]:
    for cross in model.crosses.values():
        for source in cross.sources:
            for trunk in cross.targets:
                label = f"cross{_codec_of(source)}"
                yield Wire(_end(source), f"trunk {trunk}", label, source.level)
    for condition in model.conditions.values():
        for source in condition.sources:
            words = [WORDS.get(mechanism, mechanism) for mechanism in condition.mechanisms]
            label = f"{', '.join(words)}{_codec_of(source)}"
            for trunk in [condition.trunk] if condition.trunk else _users(model, condition.codec):
                yield Wire(_end(source), f"trunk {trunk}", label, source.level)


def _codec_of(source: TokenSource) -> str:
    if source.trunk is not None:
        return f" at layer {source.layer}" if source.layer is not None else ""
    return "" if source.codec in PLAIN_CODECS else f" {source.codec}"


def _end(source: TokenSource) -> str:
    if source.segment is not None:
        return f"segment {source.segment.whole}"
    return f"trunk {source.trunk}"


def _users(model: Model, codec: str | None) -> list[str]:
    return [t.name for t in model.trunks.values() if any(g.codec == codec for g in t.groups)]


def _predictions(model: Model) -> Iterator[Wire]:
    for generate in model.generates.values():
        for trunk, name in generate.groups:
            segment: Segment = model.trunks[trunk].group(name).segment
            level = model.streams[segment.stream].level
            yield Wire(f"trunk {trunk}", f"head {segment.reference}", "", level)
    for align in model.aligns.values():
        end = f"align {align.name}"
        layer = "" if align.source.layer is None else f"layer {align.source.layer}"
        yield Wire(_end(align.source), end, layer, align.target_level, dashed=True)
        label = f"{align.target_codec} ({align.teacher.name})"
        yield Wire(f"segment {align.target.whole}", end, label, align.target_level, dashed=True)
