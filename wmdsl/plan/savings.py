"""What the emitted program of a query saves over the naive one, and on what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from wmdsl.plan.flow import Flow
from wmdsl.plan.nodes import Dropped, Generation, Saving
from wmdsl.plan.split import ahead, split
from wmdsl.plan.work import chain_flops, hoisted_flops, repeated_flops


def savings(
    flow: Flow,
    naive: Sequence[Generation],
    chain: Sequence[Generation],
    dropped: Iterable[Dropped],
    passes: int,
) -> tuple[Saving, ...]:
    """What is deleted, hoisted out of the loops, kept as keys and values, in this order; every
    pass is run `passes` times."""
    model = flow.model
    levels = [
        passes * flops
        for flops in (
            repeated_flops(model, naive), repeated_flops(model, chain),
            hoisted_flops(model, chain), chain_flops(model, chain),
        )
    ]  # fmt: skip
    gone = ("deleted_exactly", "head_skipped")
    found = (
        Saving("deleted", tuple(d.what for d in dropped if d.how in gone), levels[0] - levels[1]),
        Saving("hoisted", tuple(_embedded(chain)), levels[1] - levels[2]),
        Saving("cached", tuple(_remembered(flow, chain)), levels[2] - levels[3]),
    )
    return tuple(saving for saving in found if saving.flops)


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


def _remembered(flow: Flow, chain: Iterable[Generation]) -> Iterator[str]:
    """Groups whose keys and values are computed ahead of a loop."""
    names = {
        placed.group.name: None
        for step in chain
        for space in ahead(step)[1]
        for parts in [split(flow.model, step, space)]
        if parts is not None
        for placed in parts.still.groups
    }
    return iter(names)
