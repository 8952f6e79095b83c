"""A query with the tokens that its plan deletes put back: what the deletion is compared with.

The passes have all token groups of training; what was deleted is fed true values as clean tokens,
so that no noise is drawn for it and the noise of what is sought stays the same.  Products and
attention go token by token while both are asked: a matrix product of other height, or a softmax
over keys of which some are masked, may add its terms in another order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from wmdsl.diagnostics import Diagnostics
from wmdsl.emit import emit
from wmdsl.emit.load import load_source
from wmdsl.lower import lower
from wmdsl.plan.nodes import Generation, Pass, Plan, QueryPlan, Space
from wmdsl.plan.spaces import kept

SILENT = ("learned", "placeholder", "handed")


def undeleted(module: nn.Module, query: str) -> nn.Module:
    """A module with the same weights whose query deletes nothing inside of the spaces it runs."""
    plan = module.plan
    whole = replace(plan, queries={query: _whole_query(plan, plan.queries[query])})
    diagnostics = Diagnostics()
    program = lower(whole, diagnostics)
    assert program is not None, list(diagnostics)
    other = load_source(emit(program), whole)
    other.load_state_dict(module.state_dict())
    return other.eval()


def put_back(plan: Plan, query: str) -> tuple[str, ...]:
    """Segments whose tokens the query deletes in spaces that it runs."""
    added: dict[str, None] = {}
    for step in plan.queries[query].chain:
        for space, whole in _pairs(plan, query, step.evaluation):
            live = {placed.key for placed in space.groups}
            for placed in whole.groups:
                role = plan.train.roles[placed.key]
                if placed.key not in live and role not in (*SILENT, "prefix"):
                    added[placed.group.segment.reference] = None
    return tuple(added)


def _whole_query(plan: Plan, query: QueryPlan) -> QueryPlan:
    chain = tuple(
        replace(step, evaluation=_whole_pass(plan, query.name, step)) for step in query.chain
    )
    added = [name for name in put_back(plan, query.name) if name not in query.given]
    return replace(query, chain=chain, given=(*query.given, *added))


def _whole_pass(plan: Plan, query: str, step: Generation) -> Pass:
    spaces, roles = [], dict(step.evaluation.roles)
    for _, whole in _pairs(plan, query, step.evaluation):
        spaces.append(whole)
        for placed in whole.groups:
            role = plan.train.roles[placed.key]
            roles.setdefault(placed.key, role if role in (*SILENT, "prefix") else "clean")
    return replace(step.evaluation, spaces=tuple(spaces), roles=roles)


def _pairs(plan: Plan, query: str, evaluation: Pass) -> list[tuple[Space, Space]]:
    """The spaces of a pass, each beside the one with what the query deletes exactly."""
    trained = {(space.name, space.time): space for space in plan.train.spaces}
    dropped = plan.queries[query].dropped
    gone = {entry.what for entry in dropped if entry.how == "deleted_exactly"}
    found = []
    for space in evaluation.spaces:
        live = {placed.key for placed in space.groups}
        stays = lambda placed, live=live: placed.key in live or placed.group.name in gone  # noqa: E731
        found.append((space, kept(trained[space.name, space.time], stays, space.layers)))
    return found


def differing(
    module: nn.Module, query: str, batch: Mapping[str, Tensor], seed: int = 5
) -> tuple[str, ...]:
    """Names of the answers that are not bit-equal with and without the deleted tokens."""
    other = undeleted(module, query)
    answers = []
    for asked in (module, other):
        with token_by_token(asked):
            answers.append(asked.query(query, dict(batch), torch.Generator().manual_seed(seed)))
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
