"""Searches over sequences of actions; every candidate is judged by what a query foresees of it.

Shape suffixes: B situations, N candidates, S starts, T steps of the whole sequence, K spans in
which an action is held, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import unwrap
from types import MethodType
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from wmdsl.blocks.rollout import roll

Batch = Mapping[str, Tensor]


class Judge(NamedTuple):
    """Scores candidates [B, N, T, A] -> [B, N], higher is better.

    `ask` foresees one chunk, `worth` scores what was foreseen of each sample, given its goal.
    """

    ask: Callable[..., dict[str, Tensor]]
    worth: Callable[[Batch, Batch], Tensor]
    action: str
    places: Mapping[str, tuple[int, ...]]
    chunks: int
    batch: Batch
    goal: Batch

    def __call__(self, actions_BNTA: Tensor, generator: Generator | None) -> Tensor:
        count = actions_BNTA.shape[1]
        chunks_BCTA = actions_BNTA.flatten(0, 1).unflatten(1, (self.chunks, -1))
        batch, goal = repeated(self.batch, count), repeated(self.goal, count)
        seen = roll(self.ask, batch, self.action, chunks_BCTA, self.places, generator)
        return self.worth(seen, goal).unflatten(0, (-1, count))


class Range(NamedTuple):
    """What an action may be, and for how many of the T steps a candidate holds it."""

    low: float
    high: float
    hold: int
    steps: int

    def spans(self, actions_BNTA: Tensor) -> Tensor:
        """The actions held [B, N, K, A]: the first of every span, inside the bounds."""
        return actions_BNTA[:, :, :: self.hold].clamp(self.low, self.high)

    def whole(self, spans_BNKA: Tensor) -> Tensor:
        """Candidates [B, N, T, A] inside the bounds."""
        held = spans_BNKA.clamp(self.low, self.high).repeat_interleave(self.hold, dim=2)
        return held[:, :, : self.steps]


class Best:
    """The best candidate so far of every situation: `actions` [B, T, A], `score` [B]."""

    def __init__(self) -> None:
        self.actions: Tensor | None = None
        self.score: Tensor | None = None

    def take(self, actions_BNTA: Tensor, score_BN: Tensor) -> None:
        score, at = score_BN.max(dim=1)
        actions = actions_BNTA[torch.arange(len(at), device=at.device), at]
        if self.score is not None:
            kept = self.score >= score
            score = torch.where(kept, self.score, score)
            actions = torch.where(kept[:, None, None], self.actions, actions)
        self.actions, self.score = actions, score


def repeated(batch: Batch, count: int) -> dict[str, Tensor]:
    """Every sample `count` times, side by side."""
    return {name: values.repeat_interleave(count, dim=0) for name, values in batch.items()}


def starts(warm_BTA: Tensor | None, other_BTA: Tensor) -> Tensor:
    """Where a search begins [B, S, T, A]: an earlier plan first, if there is one."""
    return torch.stack([other_BTA] if warm_BTA is None else [warm_BTA, other_BTA], dim=1)


def lengthened(actions_BTA: Tensor, steps: int) -> Tensor:
    """The first `steps` actions; the last one goes on where they end."""
    last = actions_BTA[:, -1:].expand(-1, max(steps - actions_BTA.shape[1], 0), -1)
    return torch.cat([actions_BTA, last], dim=1)[:, :steps]


def nearness(x_BNC: Tensor, goal_BMC: Tensor) -> Tensor:
    """Minus the mean squared difference [B] of samples and the goal that all of them aim at."""
    aims = goal_BMC.repeat(1, x_BNC.shape[1] // goal_BMC.shape[1], *[1] * (x_BNC.ndim - 2))
    return -(x_BNC - aims).square().flatten(1).mean(dim=1)


def attached(query: Callable) -> Callable:
    """A query without its `no_grad`, so that a gradient may pass."""
    return MethodType(unwrap(query.__func__), query.__self__)


def normal_spans(
    mean_BKA: Tensor, deviation_BKA: Tensor, count: int, generator: Generator | None
) -> Tensor:
    """`count` draws around a mean [B, N, K, A]; the first is the mean itself."""
    size, *rest = mean_BKA.shape
    shape = (size, count, *rest)
    noise = torch.randn(shape, generator=generator, dtype=mean_BKA.dtype, device=mean_BKA.device)
    noise[:, 0] = 0
    return mean_BKA[:, None] + deviation_BKA[:, None] * noise


def random_shooting(
    judge: Judge,
    starts_BSTA: Tensor,
    limits: Range,
    samples: int,
    rounds: int,
    generator: Generator | None,
) -> dict[str, Tensor]:
    """The best of `samples` x `rounds` uniform candidates; the starts are the first of them."""
    best = Best()
    like_BSKA = limits.spans(starts_BSTA)
    shape = (len(like_BSKA), samples, *like_BSKA.shape[2:])
    for number in range(rounds):
        share = torch.rand(
            shape, generator=generator, dtype=like_BSKA.dtype, device=like_BSKA.device
        )
        spans_BNKA = limits.low + (limits.high - limits.low) * share
        if number == 0:
            spans_BNKA = torch.cat([like_BSKA, spans_BNKA], dim=1)[:, :samples]
        actions_BNTA = limits.whole(spans_BNKA)
        best.take(actions_BNTA, judge(actions_BNTA, generator))
    return {judge.action: best.actions, "score": best.score}


def elite_search(
    judge: Judge,
    starts_BSTA: Tensor,
    limits: Range,
    samples: int,
    rounds: int,
    elites: int,
    spread: float,
    generator: Generator | None,
) -> dict[str, Tensor]:
    """Normal candidates around the elites of the round before; the best of all rounds is kept.

    `spread` is the first deviation as a share of half the range.
    """
    best = Best()
    starts_BSKA = limits.spans(starts_BSTA)
    mean_BKA = starts_BSKA[:, 0]
    deviation_BKA = torch.full_like(mean_BKA, spread * (limits.high - limits.low) / 2)
    for number in range(rounds):
        spans_BNKA = normal_spans(mean_BKA, deviation_BKA, samples, generator)
        if number == 0:
            others = starts_BSKA[:, 1:samples]
            spans_BNKA[:, 1 : 1 + others.shape[1]] = others
        actions_BNTA = limits.whole(spans_BNKA)
        score_BN = judge(actions_BNTA, generator)
        best.take(actions_BNTA, score_BN)
        chosen_BN = score_BN.topk(elites, dim=1).indices
        elite_BNKA = limits.spans(actions_BNTA).gather(
            1, chosen_BN[..., None, None].expand(-1, -1, *mean_BKA.shape[1:])
        )
        mean_BKA, deviation_BKA = elite_BNKA.mean(dim=1), elite_BNKA.std(dim=1, correction=0)
    return {judge.action: best.actions, "score": best.score}


def path_integral(
    judge: Judge,
    starts_BSTA: Tensor,
    limits: Range,
    samples: int,
    rounds: int,
    temperature: float,
    spread: float,
    generator: Generator | None,
) -> dict[str, Tensor]:
    """The mean of normal candidates, weighted by the exponential of their score (MPPI).

    Scores are in units of their deviation over the candidates; `score` is their weighted mean in
    the last round.
    """
    starts_BSKA = limits.spans(starts_BSTA)
    mean_BKA = starts_BSKA[:, 0]
    deviation_BKA = torch.full_like(mean_BKA, spread * (limits.high - limits.low) / 2)
    for number in range(rounds):
        spans_BNKA = normal_spans(mean_BKA, deviation_BKA, samples, generator)
        if number == 0:
            others = starts_BSKA[:, 1:samples]
            spans_BNKA[:, 1 : 1 + others.shape[1]] = others
        actions_BNTA = limits.whole(spans_BNKA)
        score_BN = judge(actions_BNTA, generator)
        scale_B1 = score_BN.std(dim=1, keepdim=True, correction=0).clamp_min(1e-12)
        weight_BN = (score_BN / scale_B1 / temperature).softmax(dim=1)
        spans_BNKA = limits.spans(actions_BNTA)
        mean_BKA = (weight_BN[..., None, None] * spans_BNKA).sum(dim=1)
    actions_BTA = limits.whole(mean_BKA[:, None])[:, 0]
    return {judge.action: actions_BTA, "score": (weight_BN * score_BN).sum(dim=1)}


def gradient_ascent(
    judge: Judge,
    starts_BSTA: Tensor,
    limits: Range,
    samples: int,
    rounds: int,
    rate: float,
    spread: float,
    generator: Generator | None,
) -> dict[str, Tensor]:
    """Candidates around the start climb the gradient of their score; the best of all is kept.

    The largest change of a step is `rate` times half the range.
    """
    best = Best()
    starts_BSKA = limits.spans(starts_BSTA)
    deviation_BKA = torch.full_like(starts_BSKA[:, 0], spread * (limits.high - limits.low) / 2)
    spans_BNKA = normal_spans(starts_BSKA[:, 0], deviation_BKA, samples, generator)
    length = rate * (limits.high - limits.low) / 2
    for _ in range(rounds):
        with torch.enable_grad():
            spans_BNKA = spans_BNKA.clamp(limits.low, limits.high).detach().requires_grad_()
            actions_BNTA = limits.whole(spans_BNKA)
            score_BN = judge(actions_BNTA, generator)
            (slope_BNKA,) = torch.autograd.grad(score_BN.sum(), spans_BNKA)
        best.take(actions_BNTA.detach(), score_BN.detach())
        steepest = slope_BNKA.abs().amax(dim=(2, 3), keepdim=True).clamp_min(1e-12)
        spans_BNKA = spans_BNKA.detach() + length * slope_BNKA / steepest
    return {judge.action: best.actions, "score": best.score}


def best_of(
    queries: tuple[Callable[..., dict[str, Tensor]], ...],
    worth: Callable[[Batch, Batch], Tensor],
    batch: Batch,
    goal: Batch,
    known: Mapping[str, int],
    samples: int,
    generator: Generator | None,
) -> dict[str, Tensor]:
    """The best of `samples` chains of answers: each query is told what those before it answered.

    `known` counts the samples of a stream that stand before its answer.
    """
    told, answers = repeated(batch, samples), {}
    for query in queries:
        answer = query(told, generator=generator)
        for name, values in answer.items():
            before = [told[name][:, : known[name]]] if known.get(name) else []
            told[name] = torch.cat([*before, values], dim=1)
        answers |= answer
    seen = {name: values[:, None] for name, values in answers.items()}
    score_BN = worth(seen, repeated(goal, samples)).unflatten(0, (-1, samples))
    score, at = score_BN.max(dim=1)
    rows = torch.arange(len(at), device=at.device) * samples + at
    return {**{name: values[rows] for name, values in answers.items()}, "score": score}
