"""A query with the tokens that its plan deletes put back: what the deletion is compared with.

The passes have all token groups of training, and the spaces that a query leaves out altogether
run beside the others; what was deleted is fed true values as clean tokens, so that no noise is
drawn for it and the noise of what is sought stays the same.  Products and attention go token by
token while both are asked: a matrix product of other height, or a softmax over keys of which some
are masked, may add its terms in another order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from wmdsl.diagnostics import Diagnostics
from wmdsl.emit import emit
from wmdsl.emit.load import load_source
from wmdsl.lower import lower
from wmdsl.plan.nodes import Generation, Pass, Placed, Plan, QueryPlan, Space
from wmdsl.plan.spaces import kept

SILENT = ("learned", "placeholder", "handed")


def undeleted(module: nn.Module, query: str) -> nn.Module:
    """A module with the same weights whose query deletes nothing."""
    plan = module.plan
    whole = replace(plan, queries={query: _whole_query(plan, plan.queries[query])})
    diagnostics = Diagnostics()
    program = lower(whole, diagnostics)
    assert program is not None, list(diagnostics)
    other = load_source(emit(program), whole)
    other.load_state_dict(module.state_dict())
    return other.eval()


def put_back(plan: Plan, query: str) -> tuple[str, ...]:
    """Groups whose tokens the query deletes and the comparison runs."""
    return tuple(dict.fromkeys(placed.group.name for placed in _added(plan, query)))


def _added(plan: Plan, query: str) -> Iterator[Placed]:
    for step in plan.queries[query].chain:
        for live, whole in _pairs(plan, query, step.evaluation):
            yield from (placed for placed in whole.groups if placed.key not in live)


def _whole_query(plan: Plan, query: QueryPlan) -> QueryPlan:
    chain = tuple(
        replace(step, evaluation=_whole_pass(plan, query.name, step)) for step in query.chain
    )
    true = [
        placed.group.segment.whole
        for placed in _added(plan, query.name)
        if plan.train.roles[placed.key] not in ("learned", "placeholder", "prefix")
    ]
    true += [
        part.reference
        for stream in plan.model.streams.values()
        for part in stream.segments
        if part.observed
    ]
    return replace(query, chain=chain, given=tuple(dict.fromkeys((*query.given, *true))))


def _whole_pass(plan: Plan, query: str, step: Generation) -> Pass:
    spaces, roles = [], dict(step.evaluation.roles)
    for _, whole in _pairs(plan, query, step.evaluation):
        spaces.append(whole)
        for placed in whole.groups:
            role = plan.train.roles[placed.key]
            roles.setdefault(placed.key, role if role in (*SILENT, "prefix") else "clean")
    return replace(step.evaluation, spaces=tuple(spaces), roles=roles)


def _pairs(plan: Plan, query: str, evaluation: Pass) -> list[tuple[set, Space]]:
    """The keys of what a pass runs of each space, and the space with what is deleted exactly.

    In the order of training, which is that of their dependence.  A space that is left out runs
    whole where any of it is deleted exactly.
    """
    running = {(space.name, space.time): space for space in evaluation.spaces}
    dropped = plan.queries[query].dropped
    gone = {entry.what for entry in dropped if entry.how == "deleted_exactly"}
    found = []
    for whole in plan.train.spaces:
        space = running.get((whole.name, whole.time))
        if space is not None:
            live = {placed.key for placed in space.groups}
            stays = lambda placed, live=live: placed.key in live or placed.group.name in gone  # noqa: E731
            found.append((live, kept(whole, stays, space.layers)))
        elif any(placed.group.name in gone for placed in whole.groups):
            if _can_run(plan, whole, running, found):
                found.append((set(), whole))
    return found


def _can_run(plan: Plan, whole: Space, running: Mapping, found: list[tuple[set, Space]]) -> bool:
    """Whether all that a space reads is there: what reads an answer, or the tap of a generator at
    a level of its own, comes after the pass, where it changes nothing."""
    model, there = plan.model, [*running, *((space.name, space.time) for _, space in found)]
    groups = {(t, time) for name, time in there for t in _trunks(plan, name)}
    readers = [cross for cross in model.crosses.values() if set(cross.targets) & set(whole.trunks)]
    readers += [c for c in model.conditions.values() if c.trunk in whole.trunks]
    taps = [source for reader in readers for source in reader.sources if source.trunk]
    handed = any(hand.trunk in whole.trunks for hand in model.hands.values())
    return not handed and all((tap.trunk, tap.time) in groups for tap in taps)


def _trunks(plan: Plan, name: str) -> tuple[str, ...]:
    return next(space.trunks for space in plan.train.spaces if space.name == name)


def _is_reshaped(plan: Plan, query: str) -> bool:
    """Whether a space that the query runs has other tokens in the comparison."""
    return any(
        live and len(live) < len(whole.groups)
        for step in plan.queries[query].chain
        for live, whole in _pairs(plan, query, step.evaluation)
    )


def differing(
    module: nn.Module, query: str, batch: Mapping[str, Tensor], seed: int = 5
) -> tuple[str, ...]:
    """Names of the answers that are not bit-equal with and without the deleted tokens.

    Two steps of sampling: what leaks does so in each of them.
    """
    other = undeleted(module, query)
    reshaped, answers = _is_reshaped(module.plan, query), []
    for asked in (module, other):
        with token_by_token(asked) if reshaped else nullcontext():
            generator = torch.Generator().manual_seed(seed)
            answers.append(asked.query(query, dict(batch), generator, steps=2))
    one, two = answers
    assert one.keys() == two.keys()
    return tuple(name for name in one if not torch.equal(one[name], two[name]))


@contextmanager
def token_by_token(module: nn.Module) -> Iterator[None]:
    """Linear layers and the attention of an emitted file compute each token on its own."""
    python = sys.modules[type(module).__module__]
    linear, attention = functional.linear, python.attention
    functional.linear = lambda x, *weights: _each_row(linear, x, *weights)
    python.attention = _each_query
    try:
        yield
    finally:
        functional.linear, python.attention = linear, attention


def _each_row(linear, x: Tensor, *weights: Tensor) -> Tensor:
    if x.ndim < 3:
        return linear(x, *weights)
    rows = x.flatten(1, -2)
    out = torch.stack([linear(row, *weights) for row in rows.unbind(1)], dim=1)
    return out.unflatten(1, x.shape[1:-1])


def _each_query(query, key, value, schedule=None, *, scale=None):
    """[B, T, H, K] over keys [B, S, G, K]: one query after the other over the keys it sees."""
    count, heads = query.shape[1:3]
    key, value = (x.repeat_interleave(heads // x.shape[2], dim=2) for x in (key, value))
    seen = [[(0, key.shape[1])]] * count
    if schedule is not None:
        seen = [[] for _ in range(count)]
        for first, last, start, end in schedule.to_ranges():
            for row in range(first, last):
                seen[row].append((start, end))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    rows = []
    for row, spans in enumerate(seen):
        keys, values = (torch.cat([x[:, a:b] for a, b in spans], dim=1) for x in (key, value))
        weight = (torch.einsum("bhk,bshk->bhs", query[:, row], keys) * scale).softmax(dim=-1)
        rows.append(torch.einsum("bhs,bshk->bhk", weight, values))
    return torch.stack(rows, dim=1)
