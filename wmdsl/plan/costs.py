"""What the emitted program of a query costs, and what it saves over the naive one, on what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from wmdsl.plan.flow import Flow
from wmdsl.plan.naive import naive_chain
from wmdsl.plan.nodes import Generation, QueryPlan, Saving
from wmdsl.plan.split import Split, splits
from wmdsl.plan.work import hoisted_flops, key_value_bytes, remembered_flops, repeated_flops

GONE = ("deleted_exactly", "head_skipped")


def with_costs(flow: Flow, query: QueryPlan) -> QueryPlan:
    """The answer with the work and memory of its program; as it is where there is no answer."""
    if not query.chain:
        return query
    model, passes = flow.model, [step.evaluation for step in query.chain]
    parts = [(step, tuple(splits(model, step))) for step in query.chain]
    naive = naive_chain(flow, query.given, query.chain)
    naive_flops, repeated, hoisted = (
        query.passes * flops
        for flops in (
            repeated_flops(model, naive), repeated_flops(model, query.chain),
            hoisted_flops(model, query.chain),
        )
    )  # fmt: skip
    cached = query.passes * remembered_flops(model, parts)
    gone = tuple(entry.what for entry in query.dropped if entry.how in GONE)
    savings = (
        Saving("deleted", gone, naive_flops - repeated),
        Saving("hoisted", tuple(_embedded(query.chain)), repeated - hoisted),
        Saving("cached", tuple(_remembered(parts)), cached),
    )
    return replace(
        query,
        tokens=sum(space.tokens for evaluation in passes for space in evaluation.spaces),
        flops=hoisted - cached,
        kv_bytes=query.passes * max(key_value_bytes(model, evaluation) for evaluation in passes),
        naive_flops=naive_flops,
        savings=tuple(saving for saving in savings if saving.flops),
    )


def _embedded(chain: Iterable[Generation]) -> Iterator[str]:
    """Groups that are encoded ahead of a loop."""
    names = {
        placed.group.name: None
        for step in chain
        if step.steps > 1
        for space in step.evaluation.spaces
        for placed in space.groups
        if placed.group.name not in (*step.segments, *step.joint)
    }
    return iter(names)


def _remembered(parts: Iterable[tuple[Generation, Iterable[Split]]]) -> Iterator[str]:
    """Groups whose keys and values are computed ahead of a loop."""
    names = {
        placed.group.name: None
        for _, found in parts
        for split in found
        for placed in split.still.groups
    }
    return iter(names)
