"""The plan as plain data, in the shape that `wmdsl plan --json` promises (format_version 1)."""

from __future__ import annotations

from collections.abc import Mapping

from wmdsl.check.model import Segment, Stream
from wmdsl.plan.nodes import Edge, Mask, Paradigm, Plan, QueryPlan, StagePlan
from wmdsl.source import Span

FORMAT_VERSION = 1


def to_json(plan: Plan) -> dict[str, object]:
    """Only dicts, lists, texts, numbers, booleans and None."""
    model = plan.model
    return {
        "format_version": FORMAT_VERSION,
        "model": model.name,
        "edition": model.edition,
        "spec_sha256": model.sha256,
        "streams": [_stream(plan, stream) for stream in model.streams.values()],
        "trunks": [_trunk(plan, name) for name in model.trunks],
        "edges": [_edge(edge) for edge in plan.edges],
        "params": {
            "total": plan.parameters.total,
            "trainable": plan.parameters.trainable,
            "frozen": plan.parameters.frozen,
            "by_owner": dict(plan.parameters.by_owner),
        },
        "mask": {name: _mask(mask) for name, mask in plan.masks.items()},
        "paradigm": _paradigm(plan.paradigm),
        "factorisation": plan.factorisation,
        "train_flops": plan.train_flops,
        "stages": [_stage(stage) for stage in plan.stages],
        "queries": _queries(plan.queries),
        "canonical_queries": _queries(plan.canonical_queries),
        "differences": list(plan.differences),
        "notes": list(plan.notes),
        "unrunnable": [
            {"code": entry.code, "what": entry.what, "span": place(entry.span)}
            for entry in model.unrunnable
        ],
    }


def place(span: Span) -> dict[str, object]:
    return {"file": span.source.name, "line": span.line}


def _stream(plan: Plan, stream: Stream) -> dict[str, object]:
    return {
        "name": stream.name,
        "modality": stream.modality,
        "level": stream.level,
        "rate_hz": None if stream.rate_hz is None else float(stream.rate_hz),
        "segments": [_segment(plan, stream, segment) for segment in stream.segments],
    }


def _segment(plan: Plan, stream: Stream, segment: Segment) -> dict[str, object]:
    shape = stream.sample
    if segment.name != "whole":
        shape = (segment.length, *shape)
    return {
        "name": segment.name,
        "role": role_of(plan, segment),
        "tokens": token_count(plan, segment),
        "shape": list(shape),
        "offsets": list(segment.offsets),
    }


def role_of(plan: Plan, segment: Segment) -> str:
    """The role of a segment's tokens in training where it is predicted, else where it is read;
    `target` where only a loss reads it, `computed` by an extern, `unused` where nothing does."""
    placed = [group.key for space in plan.train.spaces for group in space.groups
              if group.group.segment == segment and group.group.codec is not None]  # fmt: skip
    predicting = {name for generate in plan.model.generates.values() for name in generate.groups}
    placed.sort(key=lambda key: key not in predicting)
    if placed:
        return plan.train.roles[placed[0]]
    if any(align.target == segment for align in plan.model.aligns.values()):
        return "target"
    if any(segment in extern.gives for extern in plan.model.externs.values()):
        return "computed"
    return "condition" if _is_source(plan, segment) else "unused"


def _is_source(plan: Plan, segment: Segment) -> bool:
    couplings = (*plan.model.crosses.values(), *plan.model.conditions.values())
    if any(segment in extern.takes for extern in plan.model.externs.values()):
        return True
    return any(source.segment == segment for entry in couplings for source in entry.sources)


def token_count(plan: Plan, segment: Segment) -> int:
    """Tokens of a segment in the trunk that holds most of them."""
    return max(
        (
            group.count
            for trunk in plan.model.trunks.values()
            for group in trunk.groups
            if group.segment == segment
        ),
        default=0,
    )


def _trunk(plan: Plan, name: str) -> dict[str, object]:
    trunk = plan.model.trunks[name]
    return {
        "name": name,
        "kind": trunk.kind,
        "layers": trunk.layers,
        "width": trunk.width,
        "heads": trunk.heads,
        "kv_heads": trunk.kv_heads,
        "head_dim": trunk.head_dim,
        "ffn": trunk.ffn,
        "params": plan.parameters.by_owner.get(f"trunk.{name}", 0),
        "trainable": not trunk.frozen,
        "tokens": [group.name for group in trunk.groups],
    }


def _edge(edge: Edge) -> dict[str, object]:
    return {
        "source": edge.source,
        "target": edge.target,
        "mechanism": edge.mechanism,
        "level": edge.level,
        "layers": list(edge.layers),
        "stop_gradient": edge.stop_gradient,
        "train_only": edge.train_only,
        "span": place(edge.span),
    }


def _mask(mask: Mask) -> dict[str, object]:
    return {
        "tokens": mask.tokens,
        "density": mask.density,
        "max_ranges_per_row": mask.max_ranges_per_row,
        "ranges": [list(row) for row in mask.ranges],
        "runtime": list(mask.runtime),
    }


def _paradigm(paradigm: Paradigm) -> dict[str, object]:
    return {
        "id": paradigm.id,
        "where": paradigm.where,
        "explicitness": paradigm.explicitness,
        "level": paradigm.level,
        "mechanism": list(paradigm.mechanism),
        "visual_at_inference": paradigm.visual_at_inference,
        "because": list(paradigm.because),
        "rule": paradigm.rule,
    }


def _stage(stage: StagePlan) -> dict[str, object]:
    return {
        "name": stage.name,
        "trained": list(stage.trained),
        "weights": stage.weights,
        "losses": list(stage.losses),
        "steps": stage.steps,
        "data": {name: float(share) for name, share in stage.data.items()},
        "rates": {name: float(rate) for name, rate in stage.rates.items()},
        "span": place(stage.span),
    }


def _queries(queries: Mapping[str, QueryPlan]) -> dict[str, object]:
    return {name: _query(query) for name, query in queries.items()}


def _query(query: QueryPlan) -> dict[str, object]:
    found: dict[str, object] = {
        "given": list(query.given),
        "sought": list(query.sought),
        "answerable": query.answerable,
        "because": query.because,
        "log_density": {"answer": query.density.answer, "because": query.density.because},
        "live": list(query.live),
        "dropped": [{"what": entry.what, "how": entry.how} for entry in query.dropped],
        "steps": dict(query.steps),
        "tokens": query.tokens,
        "flops": query.flops,
        "naive_flops": query.naive_flops,
        "savings": [
            {"how": saving.how, "what": list(saving.what), "flops": saving.flops}
            for saving in query.savings
        ],
        "kv_bytes": query.kv_bytes,
        "chain": [
            {
                "segments": list(step.segments),
                "joint": list(step.joint),
                "objective": step.objective,
                "sampler": step.sampler,
                "steps": step.steps,
                "until": float(step.until),
                "walks": {
                    name: {"steps": walk.steps, "stop": float(walk.stop)}
                    for name, walk in step.walks.items()
                },
                "constant": [".".join(name) for name in step.constant],
            }
            for step in query.chain
        ],
    }
    if query.blamed is not None:
        found["blamed"] = place(query.blamed)
        found["help"] = query.help
    return found
