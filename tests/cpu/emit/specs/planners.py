"""Planners: p(a|o) p(state'|o,a) p(worth'|o,a).

spec sha256 af8cd368ebae2dd26017badfba8d7b4f83e241b541babdca626c84aadd0ca59d
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type       rate   segments         batch
state   proprio 3  40 Hz  now 1, future 1  [B, 2, 3]
worth   value 1    40 Hz  future 1         [B, 1, 1]
action  action 2   40 Hz  future 4         [B, 4, 2]

trunk  kind  blocks  width  heads  tokens
body   vit   2       16     2x8    state.now:1 state.future:1 worth.future:1 action.future:4

query   answer  steps            sought | given
policy  exact   action 2         action | state.now
world   exact   state 1          state.future | state.now, action
judge   exact   worth 1          worth | state.now, action
both    exact   state 1 worth 1  state.future, worth | state.now, action

6918 parameters

B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim
F frames  N samples  C channels or features  R rows of codes  V vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import unwrap
from itertools import pairwise
from types import MethodType
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from wmdsl_kernels import Schedule, attention


class Tokens(nn.Module):
    """Features [B, T, C] -> tokens [B, T, W], with a learned place for each token."""

    def __init__(self, features: int, width: int, count: int):
        super().__init__()
        self.projection = nn.Linear(features, width)
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.projection(x_BTC) + self.places


class Places(nn.Module):
    """Learned tokens that carry no data, as registers and placeholders: [B, T, W]."""

    def __init__(self, count: int, width: int):
        super().__init__()
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, batch_size: int) -> Tensor:
        return self.places.expand(batch_size, -1, -1)


class ViTBlock(nn.Module):
    """Attention and feed-forward behind layer norms."""

    def __init__(self, width: int, heads: nn.Module, ffn: int):
        super().__init__()
        self.heads_norm = nn.LayerNorm(width)
        self.heads = heads
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, ffn), nn.GELU(), nn.Linear(ffn, width))

    def project(self, x_BTW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value."""
        return self.heads.project(self.heads_norm(x_BTW))

    def merge(self, x_BTW: Tensor, mixed_BTHK: Tensor) -> Tensor:
        """What attention mixed, added to the tokens."""
        return x_BTW + self.heads.merge(mixed_BTHK)

    def feed(self, x_BTW: Tensor) -> Tensor:
        """The feed-forward part."""
        return x_BTW + self.ffn(self.ffn_norm(x_BTW))


class Heads(nn.Module):
    """Queries, keys and values of tokens, and the way back from the heads to the width."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int, bias: bool = True):
        super().__init__()
        self.sizes = (heads, kv_heads, kv_heads)
        self.head_dim = head_dim
        self.inward = nn.Linear(width, sum(self.sizes) * head_dim, bias=bias)
        self.outward = nn.Linear(heads * head_dim, width, bias=bias)

    def project(self, x_BTW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query [B, T, H, K], key and value [B, T, G, K]."""
        return self.inward(x_BTW).unflatten(-1, (-1, self.head_dim)).split(self.sizes, dim=2)

    def merge(self, mixed_BTHK: Tensor) -> Tensor:
        return self.outward(mixed_BTHK.flatten(2))


class Head(nn.Linear):
    """Linear read-out of tokens that starts at zero."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def samples(
    batch: Mapping[str, Tensor], name: str, first: int, window: int, shape: tuple[int, ...], at: str
) -> Tensor:
    """The first samples [B, first, *shape] of a stream; the batch holds them or all its window."""
    if name not in batch:
        raise ValueError(f"the batch has no {name!r}, which {at} declares")
    x = batch[name]
    if x.ndim != 2 + len(shape) or x.shape[2:] != shape or not first <= x.shape[1] <= window:
        counts = f"{window}" if first == window else f"{first}..{window}"
        wanted = ", ".join(("B", counts, *map(str, shape)))
        raise ValueError(f"batch[{name!r}] is {list(x.shape)}, but {at} declares [{wanted}]")
    return x[:, :first]


Shape = tuple[int, ...]


def uniform(
    shape: Shape, low: float, high: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Uniform between `low` and `high`."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return low + (high - low) * draw


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal noise with the dtype and device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def validity(batch: Mapping[str, Tensor], name: str, size: int, window: int) -> Tensor:
    """Which samples [B, window] count in a loss: `NAME.valid`, all where it is absent."""
    valid = batch.get(f"{name}.valid")
    if valid is None:
        return torch.ones(size, window, dtype=torch.bool, device=batch[name].device)
    if valid.shape != (size, window):
        found = list(valid.shape)
        raise ValueError(f"batch['{name}.valid'] is {found}, but is to be [{size}, {window}]")
    return valid


def valid_mean(error_BT: Tensor, valid_BN: Tensor) -> Tensor:
    """Mean of the errors of valid samples; a sample stands for T / N tokens in a row."""
    weight_BN = valid_BN.to(error_BT.dtype)
    error_BN = error_BT.unflatten(1, (weight_BN.shape[1], -1)).mean(dim=2)
    return (error_BN * weight_BN).sum() / weight_BN.sum().clamp(min=1)


def l1(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean absolute difference of each token [B, T]."""
    return (x_BTC - y_BTC).abs().mean(dim=-1)


def l2(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean squared difference of each token [B, T]."""
    return (x_BTC - y_BTC).square().mean(dim=-1)


def descending(steps: int, stop: float = 0.0) -> list[tuple[float, float]]:
    """(now, then) of equal steps from 1 (noise) to `stop`; 0 is clean."""
    times = [1 - (1 - stop) * step / steps for step in range(steps + 1)]
    return list(pairwise(times))


def chosen(name: str, queries: Mapping[str, Callable]) -> Callable:
    """The query of that name; ValueError where there is none."""
    if name not in queries:
        raise ValueError(f"there is no query {name!r}; there are {', '.join(queries) or 'none'}")
    return queries[name]


def several(batch: dict[str, Tensor], draws: int) -> dict[str, Tensor]:
    """Every sample so many times in a row."""
    if draws == 1:
        return batch
    return {name: x.repeat_interleave(draws, dim=0) for name, x in batch.items()}


def nearness(x_BNC: Tensor, goal_BMC: Tensor) -> Tensor:
    """Minus the mean squared difference [B] of samples and the goal that all of them aim at."""
    aims = goal_BMC.repeat(1, x_BNC.shape[1] // goal_BMC.shape[1], *[1] * (x_BNC.ndim - 2))
    return -(x_BNC - aims).square().flatten(1).mean(dim=1)


Batch = Mapping[str, Tensor]


def repeated(batch: Batch, count: int) -> dict[str, Tensor]:
    """Every sample `count` times, side by side."""
    return {name: values.repeat_interleave(count, dim=0) for name, values in batch.items()}


def roll(
    ask: Callable[..., dict[str, Tensor]],
    batch: Mapping[str, Tensor],
    action: str,
    actions_BNTA: Tensor,
    places: Mapping[str, tuple[int, ...]],
    generator: Generator | None,
) -> dict[str, Tensor]:
    """What follows N chunks of T actions: by stream, the samples predicted by each [B, N, F, ...].

    `places` says which of the known and the predicted samples of a stream are known to the next
    chunk, and which of the past and the given actions where there is a past; every other given
    stays as it is.
    """
    known = {**batch, **{name: batch[name][:, : len(at)] for name, at in places.items()}}
    answers = []
    for chunk_BTA in actions_BNTA.unbind(1):
        past = [known[action]] if action in places else []
        answer = ask({**known, action: torch.cat([*past, chunk_BTA], dim=1)}, generator=generator)
        added = {**answer, action: chunk_BTA}
        for name, at in places.items():
            known[name] = torch.cat([known[name], added[name]], dim=1)[:, list(at)]
        answers.append(answer)
    return {name: torch.stack([one[name] for one in answers], dim=1) for name in answers[0]}


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


def starts(warm_BTA: Tensor | None, other_BTA: Tensor) -> Tensor:
    """Where a search begins [B, S, T, A]: an earlier plan first, if there is one."""
    return torch.stack([other_BTA] if warm_BTA is None else [warm_BTA, other_BTA], dim=1)


def normal_spans(
    mean_BKA: Tensor, deviation_BKA: Tensor, count: int, generator: Generator | None
) -> Tensor:
    """`count` draws around a mean [B, N, K, A]; the first is the mean itself."""
    size, *rest = mean_BKA.shape
    shape = (size, count, *rest)
    noise = torch.randn(shape, generator=generator, dtype=mean_BKA.dtype, device=mean_BKA.device)
    noise[:, 0] = 0
    return mean_BKA[:, None] + deviation_BKA[:, None] * noise


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


def attached(query: Callable) -> Callable:
    """A query without its `no_grad`, so that a gradient may pass."""
    return MethodType(unwrap(query.__func__), query.__self__)


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


def lengthened(actions_BTA: Tensor, steps: int) -> Tensor:
    """The first `steps` actions; the last one goes on where they end."""
    last = actions_BTA[:, -1:].expand(-1, max(steps - actions_BTA.shape[1], 0), -1)
    return torch.cat([actions_BTA, last], dim=1)[:, :steps]


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


TRAIN_BODY = Schedule.from_ranges(
    7, 7, [(0, 1, 0, 1), (1, 3, 0, 7), (3, 7, 0, 1), (3, 7, 3, 7)]
)  # model.wm:30


class Planners(nn.Module):
    """The model `planners`."""

    def __init__(self):
        super().__init__()

        # stream state, normalised by zscore (model.wm:4)
        self.register_buffer("state_mean", torch.zeros(3))
        self.register_buffer("state_scale", torch.ones(3))

        # stream worth, normalised by zscore (model.wm:11)
        self.register_buffer("worth_mean", torch.zeros(1))
        self.register_buffer("worth_scale", torch.ones(1))

        # stream action, normalised by zscore (model.wm:17)
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_scale", torch.ones(2))

        # trunk body: vit, 2 blocks, width 16, 2 heads x 8 (model.wm:22)
        self.body = nn.ModuleDict(
            dict(
                state_now_in=Tokens(3, 16, 1),
                state_future_in=Places(1, 16),
                worth_in=Places(1, 16),
                action_in=Tokens(2, 16, 4),
                blocks=nn.ModuleList([ViTBlock(16, Heads(16, 2, 2, 8), 64) for _ in range(2)]),
                norm=nn.LayerNorm(16),
                state_future_out=Head(16, 3),
                worth_out=Head(16, 1),
                action_out=Head(16, 2),
            )
        )

    def run_body(self, body: Tensor, schedule: Schedule | None) -> Tensor:
        """The blocks of body (model.wm:22)."""
        for block in self.body.blocks:
            query, key, value = block.project(body)
            mixed = attention(query, key, value, schedule)
            body = block.merge(body, mixed)
            body = block.feed(body)
        return self.body.norm(body)

    def remember_body(self, body: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of body that no step changes, block by block (model.wm:22)."""
        memory = []
        for depth, block in enumerate(self.body.blocks):
            query, key, value = block.project(body)
            memory.append((key, value))
            if depth == 1:
                break
            mixed = attention(query, key, value)
            body = block.merge(body, mixed)
            body = block.feed(body)
        return memory

    def step_body(self, body: Tensor, memory: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The blocks of body, seeing `memory` and themselves (model.wm:22)."""
        for block, (kept_key, kept_value) in zip(self.body.blocks, memory, strict=True):
            query, key, value = block.project(body)
            mixed = attention(
                query, torch.cat([kept_key, key], dim=1), torch.cat([kept_value, value], dim=1)
            )
            body = block.merge(body, mixed)
            body = block.feed(body)
        return self.body.norm(body)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        state = samples(batch, "state", 2, 2, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        state_now, state_future = state.split([1, 1], dim=1)
        worth = samples(batch, "worth", 1, 1, (1,), "model.wm:11")
        worth = (worth - self.worth_mean) / self.worth_scale
        action = samples(batch, "action", 4, 4, (2,), "model.wm:17")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(state_now)

        # feel: state.future by regression (model.wm:36)

        # value: worth.future by regression (model.wm:40)

        # act: action.future by flow (model.wm:44)
        action_time = uniform((size, 1), 0, 1, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = torch.lerp(action, action_noise, action_time[..., None])

        # body (model.wm:22)
        body = torch.cat(
            [
                self.body.state_now_in(state_now),
                self.body.state_future_in(size),
                self.body.worth_in(size),
                self.body.action_in(action_noisy),
            ],
            dim=1,
        )
        body_out = self.run_body(body, TRAIN_BODY)

        # feel: error (model.wm:36)
        state_future_out = self.body.state_future_out(body_out[:, 1:2])
        state_valid = validity(batch, "state", size, 2)
        feel = valid_mean(l1(state_future_out, state_future), state_valid[:, 1:2])

        # value: error (model.wm:40)
        worth_out = self.body.worth_out(body_out[:, 2:3])
        worth_valid = validity(batch, "worth", size, 1)
        value = valid_mean(l1(worth_out, worth), worth_valid)

        # act: error (model.wm:44)
        action_out = self.body.action_out(body_out[:, 3:7])
        action_valid = validity(batch, "action", size, 4)
        act = valid_mean(l2(action_out, action_noise - action), action_valid)
        return {"loss": feel + value + act, "feel": feel, "value": value, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given state.now (exact) (model.wm:53).

        state.future: deleted exactly
        worth.future: deleted exactly
        """
        state = samples(batch, "state", 1, 2, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        like = next(self.parameters())
        size = len(state)

        # action.future by flow (model.wm:44)
        action = normal((size, 4, 2), like, generator)
        body_state_now = self.body.state_now_in(state)
        memory = self.remember_body(body_state_now)
        for now, then in descending(steps or 2):
            body = self.body.action_in(action)
            body_out = self.step_body(body, memory)
            action_velocity = self.body.action_out(body_out)  # model.wm:44
            action = action + (then - now) * action_velocity
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_world(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """state.future given state.now, action (exact) (model.wm:57).

        worth.future: head skipped
        """
        state = samples(batch, "state", 1, 2, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        action = samples(batch, "action", 4, 4, (2,), "model.wm:17")
        action = (action - self.action_mean) / self.action_scale
        size = len(state)

        # state.future by regression (model.wm:36)
        body = torch.cat(
            [
                self.body.state_now_in(state),
                self.body.state_future_in(size),
                self.body.worth_in(size),
                self.body.action_in(action),
            ],
            dim=1,
        )
        body_out = self.run_body(body, TRAIN_BODY)
        state_future = self.body.state_future_out(body_out[:, 1:2])
        return {"state": state_future * self.state_scale + self.state_mean}

    @torch.no_grad()
    def query_judge(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """worth given state.now, action (exact) (model.wm:61).

        state.future: head skipped
        """
        state = samples(batch, "state", 1, 2, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        action = samples(batch, "action", 4, 4, (2,), "model.wm:17")
        action = (action - self.action_mean) / self.action_scale
        size = len(state)

        # worth.future by regression (model.wm:40)
        body = torch.cat(
            [
                self.body.state_now_in(state),
                self.body.state_future_in(size),
                self.body.worth_in(size),
                self.body.action_in(action),
            ],
            dim=1,
        )
        body_out = self.run_body(body, TRAIN_BODY)
        worth = self.body.worth_out(body_out[:, 2:3])
        return {"worth": worth * self.worth_scale + self.worth_mean}

    @torch.no_grad()
    def query_both(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """state.future, worth given state.now, action (exact) (model.wm:65)."""
        state = samples(batch, "state", 1, 2, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        action = samples(batch, "action", 4, 4, (2,), "model.wm:17")
        action = (action - self.action_mean) / self.action_scale
        size = len(state)

        # state.future and worth.future by regression (model.wm:36)
        body = torch.cat(
            [
                self.body.state_now_in(state),
                self.body.state_future_in(size),
                self.body.worth_in(size),
                self.body.action_in(action),
            ],
            dim=1,
        )
        body_out = self.run_body(body, TRAIN_BODY)
        state_future = self.body.state_future_out(body_out[:, 1:2])
        worth = self.body.worth_out(body_out[:, 2:3])
        return {
            "state": state_future * self.state_scale + self.state_mean,
            "worth": worth * self.worth_scale + self.worth_mean,
        }

    def query(
        self,
        name: str,
        batch: dict[str, Tensor],
        generator: Generator | None = None,
        steps: int | None = None,
        draws: int = 1,
    ) -> dict[str, Tensor]:
        """The answer to a query, by name; `steps` overrides those of the spec.

        With `draws`, so many answers to each sample in a row [B * draws, ...].
        """
        return chosen(
            name,
            {
                "policy": self.query_policy,
                "world": self.query_world,
                "judge": self.query_judge,
                "both": self.query_both,
            },
        )(several(batch, draws), generator, steps)

    def worth_shoot(self, seen: dict[str, Tensor], goal: dict[str, Tensor]) -> Tensor:
        """What each future [B, chunks, F, ...] is worth to planner shoot [B] (model.wm:69)."""
        state = seen["state"][:, :, 0]
        state_goal = samples(goal, "state", 1, 1, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        state_goal = (state_goal - self.state_mean) / self.state_scale
        return nearness(state, state_goal)

    @torch.no_grad()
    def search_shoot(
        self,
        batch: dict[str, Tensor],
        goal: dict[str, Tensor] | None = None,
        generator: Generator | None = None,
        warm: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """8 steps of action by random, foreseen by world; `warm` is an earlier plan to begin at
        (model.wm:69).
        """
        judge = Judge(
            self.query_world, self.worth_shoot, "action", {"state": (1,)}, 2, batch, goal or {}
        )
        limits = Range(-0.5, 0.75, 2, 8)
        like = next(self.parameters())
        size = len(batch["state"])
        start = like.new_full((size, 8, 2), 0.125)
        return random_shooting(judge, starts(warm, start), limits, 5, 3, generator)

    def worth_cross(self, seen: dict[str, Tensor], goal: dict[str, Tensor]) -> Tensor:
        """What each future [B, chunks, F, ...] is worth to planner cross [B] (model.wm:80)."""
        state = seen["state"][:, :, 0]
        state_goal = samples(goal, "state", 1, 1, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        state_goal = (state_goal - self.state_mean) / self.state_scale
        return nearness(state, state_goal)

    @torch.no_grad()
    def search_cross(
        self,
        batch: dict[str, Tensor],
        goal: dict[str, Tensor] | None = None,
        generator: Generator | None = None,
        warm: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """8 steps of action by cem, foreseen by world; `warm` is an earlier plan to begin at
        (model.wm:80).
        """
        judge = Judge(
            self.query_world, self.worth_cross, "action", {"state": (1,)}, 2, batch, goal or {}
        )
        limits = Range(-0.5, 0.75, 2, 8)
        like = next(self.parameters())
        size = len(batch["state"])
        start = like.new_full((size, 8, 2), 0.125)
        return elite_search(judge, starts(warm, start), limits, 6, 3, 2, 0.8, generator)

    def worth_path(self, seen: dict[str, Tensor], goal: dict[str, Tensor]) -> Tensor:
        """What each future [B, chunks, F, ...] is worth to planner path [B] (model.wm:93)."""
        state = seen["state"][:, :, 0]
        state_goal = samples(goal, "state", 1, 1, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        state_goal = (state_goal - self.state_mean) / self.state_scale
        return nearness(state, state_goal)

    @torch.no_grad()
    def search_path(
        self,
        batch: dict[str, Tensor],
        goal: dict[str, Tensor] | None = None,
        generator: Generator | None = None,
        warm: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """8 steps of action by mppi, foreseen by world; `warm` is an earlier plan to begin at
        (model.wm:93).
        """
        judge = Judge(
            self.query_world, self.worth_path, "action", {"state": (1,)}, 2, batch, goal or {}
        )
        limits = Range(-0.5, 0.75, 2, 8)
        like = next(self.parameters())
        size = len(batch["state"])
        start = like.new_full((size, 8, 2), 0.125)
        return path_integral(judge, starts(warm, start), limits, 6, 2, 0.4, 0.8, generator)

    def worth_climb(self, seen: dict[str, Tensor], goal: dict[str, Tensor]) -> Tensor:
        """What each future [B, chunks, F, ...] is worth to planner climb [B] (model.wm:106)."""
        state = seen["state"][:, :, 0]
        state_goal = samples(goal, "state", 1, 1, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        state_goal = (state_goal - self.state_mean) / self.state_scale
        return nearness(state, state_goal)

    @torch.no_grad()
    def search_climb(
        self,
        batch: dict[str, Tensor],
        goal: dict[str, Tensor] | None = None,
        generator: Generator | None = None,
        warm: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """8 steps of action by gradient, foreseen by world; `warm` is an earlier plan to begin at
        (model.wm:106).
        """
        judge = Judge(
            attached(self.query_world),
            self.worth_climb,
            "action",
            {"state": (1,)},
            2,
            batch,
            goal or {},
        )
        limits = Range(-0.5, 0.75, 2, 8)
        like = next(self.parameters())
        size = len(batch["state"])
        start = like.new_full((size, 8, 2), 0.125)
        return gradient_ascent(judge, starts(warm, start), limits, 3, 3, 0.2, 0.8, generator)

    def worth_led(self, seen: dict[str, Tensor], goal: dict[str, Tensor]) -> Tensor:
        """What each future [B, chunks, F, ...] is worth to planner led [B] (model.wm:119)."""
        state = seen["state"][:, :, 0]
        state_goal = samples(goal, "state", 1, 1, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        state_goal = (state_goal - self.state_mean) / self.state_scale
        return seen["worth"].flatten(1).mean(dim=1) + nearness(state, state_goal)

    @torch.no_grad()
    def search_led(
        self,
        batch: dict[str, Tensor],
        goal: dict[str, Tensor] | None = None,
        generator: Generator | None = None,
        warm: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """4 steps of action by cem, foreseen by both; `warm` is an earlier plan to begin at
        (model.wm:119).
        """
        judge = Judge(
            self.query_both, self.worth_led, "action", {"state": (1,)}, 1, batch, goal or {}
        )
        limits = Range(-1, 1, 1, 4)
        start = lengthened(self.query_policy(batch, generator)["action"], 4)
        return elite_search(judge, starts(warm, start), limits, 4, 2, 2, 0.5, generator)

    def worth_pick(self, seen: dict[str, Tensor], goal: dict[str, Tensor]) -> Tensor:
        """What each future [B, chunks, F, ...] is worth to planner pick [B] (model.wm:133)."""
        return seen["worth"].flatten(1).mean(dim=1)

    @torch.no_grad()
    def search_pick(
        self,
        batch: dict[str, Tensor],
        goal: dict[str, Tensor] | None = None,
        generator: Generator | None = None,
    ) -> dict[str, Tensor]:
        """The best of 4 answers to policy, judge, by its score (model.wm:133)."""
        return best_of(
            (self.query_policy, self.query_judge),
            self.worth_pick,
            batch,
            goal or {},
            {},
            4,
            generator,
        )
