"""What changed between two plans, and which weights of the first fit the second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

from wmdsl.plan.nodes import Edge, Plan, QueryPlan
from wmdsl.plan.quantities import count, flops, percent
from wmdsl.record import record

WIDTH = 100


@record
class Difference:
    """`kind`: edge, mask, query, weights or paradigm; `before` and `after` are "" where absent."""

    kind: str
    name: str
    before: str
    after: str


@record
class Comparison:
    """`loadable` and `missing` are owners whose weights of the first fit, or do not exist there or
    have another size."""

    differences: tuple[Difference, ...]
    loadable: tuple[str, ...]
    missing: tuple[str, ...]


def compare(first: Plan, second: Plan) -> Comparison:
    """Everything derived that differs, and what of the first run's weights the second can take."""
    shapes, wanted = weight_shapes(first), weight_shapes(second)
    return Comparison(
        tuple(_differences(first, second)),
        tuple(owner for owner in wanted if shapes.get(owner) == wanted[owner]),
        tuple(owner for owner in wanted if shapes.get(owner) != wanted[owner]),
    )


def in_short(
    first: Plan, second: Plan, comparison: Comparison, changed: Sequence[str]
) -> str:
    """What a reader of two papers wants to know, in five lines; `changed` is what was written."""
    sides = first, second
    rows = {
        "written": "; ".join(changed),
        "coupling": _became([p.paradigm.id for p in sides])
        + "; visual branch at inference "
        + _became([p.paradigm.visual_at_inference for p in sides]),
        "policy": _became([_answer(plan.canonical_queries["policy"]) for plan in sides]),
        "training": _became([f"{flops(plan.train_flops)} a sample" for plan in sides])
        + "; "
        + _became([f"{percent(_density(plan))} of pairs seen" for plan in sides]),
        "weights": _weights(comparison),
    }
    return "\n".join(["in short", *(f"  {name:<9} {text}" for name, text in rows.items())]) + "\n"


def _became(texts: Sequence[str]) -> str:
    """`a -> b`, or `a` where nothing changed."""
    return " -> ".join(dict.fromkeys(texts))


def _answer(query: QueryPlan) -> str:
    if query.answerable == "no":
        return "no answer"
    return f"{query.tokens} tokens, {flops(query.flops)}, {query.answerable}"


def _density(plan: Plan) -> float:
    """Of the masks of training together."""
    masks = [mask for name, mask in plan.masks.items() if name not in plan.queries]
    pairs = sum(mask.tokens**2 for mask in masks)
    return sum(mask.density * mask.tokens**2 for mask in masks) / pairs if pairs else 0.0


def _weights(comparison: Comparison) -> str:
    if not comparison.missing:
        return "all load"
    return f"{', '.join(comparison.missing)} start anew, the others load"


HEADINGS = {"paradigm": "paradigm", "edge": "derived edges", "mask": "derived masks",
            "query": "answers", "weights": "sizes"}  # fmt: skip


def comparison_text(comparison: Comparison) -> str:
    """The derived differences by kind (`~` changed, `+` new, `-` gone), then the weights."""
    lines: list[str] = []
    for kind, heading in HEADINGS.items():
        entries = [entry for entry in comparison.differences if entry.kind == kind]
        lines += [heading] if entries else []
        for entry in entries:
            lines.append(f"  {_sign(entry)} {entry.name}".rstrip())
            lines += _wrapped("-", entry.before) + _wrapped("+", entry.after)
    lines += _listed("weights that load", comparison.loadable)
    lines += _listed("weights that start anew", comparison.missing)
    return "\n".join(lines) + "\n"


def _sign(entry: Difference) -> str:
    if entry.before and entry.after:
        return "~"
    return "-" if entry.before else "+"


def _wrapped(sign: str, text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=f"      {sign} ", subsequent_indent=" " * 10)


def _listed(heading: str, owners: Sequence[str]) -> list[str]:
    return wrap(f"{heading}: {', '.join(owners) or 'none'}", WIDTH, subsequent_indent="  ")


def weight_shapes(plan: Plan) -> Mapping[str, tuple[object, ...]]:
    """By owner, everything that decides the shapes of its weights."""
    model = plan.model
    shapes: dict[str, tuple[object, ...]] = {}
    for owner, number in plan.parameters.by_owner.items():
        kind, _, name = owner.partition(".")
        shapes[owner] = (number,)
        if kind == "trunk":
            trunk = model.trunks[name]
            groups = [(g.name, g.codec, g.count, g.features) for g in trunk.groups]
            roles = [plan.train.roles[name, group.name] for group in trunk.groups]
            shapes[owner] += (trunk.kind, trunk.layers, trunk.width, trunk.heads, trunk.head_dim,
                              trunk.kv_heads, trunk.ffn, trunk.qk_norm, trunk.positions,
                              tuple(groups), tuple(roles))  # fmt: skip
        if kind == "codec":
            codec = model.codecs[name]
            shapes[owner] += (codec.kind, tuple(sorted((k, str(v)) for k, v in
                                                       codec.attributes.items())))  # fmt: skip
    return shapes


def _differences(first: Plan, second: Plan) -> Iterator[Difference]:
    if first.paradigm.id != second.paradigm.id:
        yield Difference("paradigm", "", first.paradigm.id, second.paradigm.id)
    yield from _changed("edge", _edges(first.edges), _edges(second.edges))
    yield from _changed("mask", _masks(first), _masks(second))
    yield from _changed("query", _queries(first.queries), _queries(second.queries))
    owners = [
        {owner: count(number) for owner, number in plan.parameters.by_owner.items()}
        for plan in (first, second)
    ]
    yield from _changed("weights", *owners)


def _changed(
    kind: str, before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[Difference]:
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield Difference(kind, name, before.get(name, ""), after.get(name, ""))


def _edges(edges: Sequence[Edge]) -> Mapping[str, str]:
    return {
        f"{edge.source} -> {edge.target}": " ".join(
            (edge.mechanism, edge.level, *(["training only"] if edge.train_only else []))
        )
        for edge in edges
    }


def _masks(plan: Plan) -> Mapping[str, str]:
    return {
        name: f"{mask.tokens} tokens, {percent(mask.density)} of pairs in {len(mask.ranges)} rows"
        for name, mask in plan.masks.items()
    }


def _queries(queries: Mapping[str, QueryPlan]) -> Mapping[str, str]:
    return {
        name: f"{', '.join(query.sought)} | {', '.join(query.given)}: {query.answerable}, "
        f"{query.because}"
        for name, query in queries.items()
    }
