"""Padded: p(a,goal'|o).

spec sha256 c3a9814288ddc904db993769f89abb2a4db43d1625026dd968878f1827d2670d
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type       rate   segments          batch
state   proprio 4  10 Hz  now 1             [B, 1, 4]
action  action 3   10 Hz  past 2, future 4  [B, 6, 3]
goal    vector 2   10 Hz  future 1          [B, 1, 2]

trunk   kind  blocks  width  heads  tokens
policy  dit   1       32     2x16   state.now:1 action.past:2 action.future:4 goal.future:1

query   answer  steps            sought | given
policy  exact   action 3 goal 3  action.future | state, action.past

31237 parameters

B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim
F frames  N samples  C channels or features  R rows of codes  V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from wmdsl_kernels import attention, gated_residual, modulated_norm


class Tokens(nn.Module):
    """Features [B, T, C] -> tokens [B, T, W], with a learned place for each token."""

    def __init__(self, features: int, width: int, count: int):
        super().__init__()
        self.projection = nn.Linear(features, width)
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.projection(x_BTC) + self.places


class TimeCode(nn.Module):
    """Times [B, R] in 0 (clean) to 1 (noise) -> codes [B, R, W], from 256 sinusoids."""

    def __init__(self, width: int):
        super().__init__()
        frequencies = 1000 * torch.exp(-math.log(10000) * torch.arange(128) / 128)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time_BR: Tensor) -> Tensor:
        angles = time_BR[..., None] * self.frequencies
        return self.layers(torch.cat([angles.cos(), angles.sin()], dim=-1))


WIDE = (torch.float32, torch.float64)


class Runs(NamedTuple):
    """Rows [B, R, W]; row r belongs to the next `lengths[r]` tokens.

    Without lengths one row is for all tokens, or each has its own.
    """

    rows: Tensor
    lengths: tuple[int, ...]

    def chunk(self, count: int) -> list[Runs]:
        """The channels cut into equal parts."""
        runs = self.spread() if self._is_small(count) else self
        return [Runs(rows, runs.lengths) for rows in runs.rows.chunk(count, dim=-1)]

    def spread(self) -> Runs:
        """The rows of several runs, laid out token by token."""
        if len(self.lengths) == 1:
            return Runs(self.rows, ())
        rows = zip(self.rows.split(1, dim=1), self.lengths, strict=True)
        return Runs(torch.cat([row.expand(-1, length, -1) for row, length in rows], dim=1), ())

    def _is_small(self, count: int) -> bool:
        """Whether torch's own operations take less time than to call a kernel: few numbers."""
        numbers = len(self.rows) * sum(self.lengths) * self.rows.shape[-1] // count
        return self.rows.is_cpu and numbers <= 1 << 15

    def by_step(self, count: int) -> list[list[Runs | Tensor]]:
        """For each step of a sampler, which a batch of one row for every step stands for, the
        channels cut into equal parts: shift, scale, gate, shift, ...

        Where torch's layer norm takes them, rows are those of all samples [R, W], one row for all
        tokens is a plain tensor [W], and a scale is 1 + scale.
        """
        steps = self.rows.unflatten(-1, (count, -1))
        if not steps.is_cpu or steps.dtype not in WIDE:
            steps = steps[:, None]
        else:
            steps = steps.clone()
            steps[..., 1::3, :] += 1
            if len(self.lengths) == 1:
                return [list(step.unbind()) for step in steps[:, 0]]
        return [[Runs(part, self.lengths) for part in step.unbind(-2)] for step in steps]


Row = Runs | Tensor


def gated(x_BTW: Tensor, change_BTW: Tensor, gate: Row) -> Tensor:
    """x + gate * change, run by run."""
    if isinstance(gate, Tensor):
        return torch.addcmul(x_BTW, gate, change_BTW)
    if not gate.lengths:
        return torch.addcmul(x_BTW, gate.rows, change_BTW)
    if gate.rows.ndim == 2:
        tokens = (x.split(gate.lengths, dim=1) for x in (x_BTW, change_BTW))
        return torch.cat([gated(*part) for part in zip(*tokens, gate.rows, strict=True)], dim=1)
    rows = gate.rows.expand(len(x_BTW), -1, -1)
    return gated_residual(x_BTW, change_BTW, rows, gate.lengths)


def modulated(x_BTW: Tensor, shift: Row, scale: Row) -> Tensor:
    """LayerNorm(x) (1 + scale) + shift, run by run."""
    if isinstance(shift, Tensor):
        return functional.layer_norm(x_BTW, x_BTW.shape[-1:], scale, shift)
    if not shift.lengths:
        normed = functional.layer_norm(x_BTW, x_BTW.shape[-1:])
        return torch.addcmul(shift.rows, normed, 1 + scale.rows)
    if shift.rows.ndim == 2:
        parts = zip(x_BTW.split(shift.lengths, dim=1), shift.rows, scale.rows, strict=True)
        return torch.cat([modulated(*part) for part in parts], dim=1)
    rows = [part.rows.expand(len(x_BTW), -1, -1) for part in (shift, scale)]
    return modulated_norm(x_BTW, *rows, shift.lengths)


class DiTBlock(nn.Module):
    """Attention and feed-forward, each scaled, shifted and gated by the code (adaLN-zero)."""

    def __init__(self, width: int, heads: nn.Module, adaln: nn.Module, ffn: int):
        super().__init__()
        self.adaln = adaln
        self.heads = heads
        self.ffn = nn.Sequential(
            nn.Linear(width, ffn), nn.GELU(approximate="tanh"), nn.Linear(ffn, width)
        )

    def modulation(self, code: Runs) -> list[Runs]:
        """Shift, scale and gate of the attention, then those of the feed-forward part."""
        return self.adaln(code).chunk(6)

    def project(self, x_BTW: Tensor, modulation: list[Row]) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value."""
        return self.heads.project(modulated(x_BTW, *modulation[:2]))

    def merge(self, x_BTW: Tensor, mixed_BTHK: Tensor, modulation: list[Row]) -> Tensor:
        """What attention mixed, added to the tokens."""
        return gated(x_BTW, self.heads.merge(mixed_BTHK), modulation[2])

    def feed(self, x_BTW: Tensor, modulation: list[Row]) -> Tensor:
        """The feed-forward part."""
        change = self.ffn(modulated(x_BTW, *modulation[3:5]))
        return gated(x_BTW, change, modulation[5])


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


class AdaLN(nn.Sequential):
    """So many numbers per channel of each row of codes; all are zero at first."""

    def __init__(self, width: int, count: int):
        super().__init__(nn.SiLU(), nn.Linear(width, count * width))
        nn.init.zeros_(self[1].weight)
        nn.init.zeros_(self[1].bias)

    def forward(self, code: Runs) -> Runs:
        return Runs(super().forward(code.rows), code.lengths)


class ModulatedNorm(nn.Module):
    """The last norm of a diffusion transformer, scaled and shifted by the code."""

    def __init__(self, width: int):
        super().__init__()
        self.adaln = AdaLN(width, count=2)

    def forward(self, x_BTW: Tensor, code: Runs) -> Tensor:
        return self.modulate(x_BTW, self.adaln(code).chunk(2))

    def modulate(self, x_BTW: Tensor, modulation: list[Row]) -> Tensor:
        """With the shift and the scale that a code stands for."""
        return modulated(x_BTW, *modulation)


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


def without_padding(batch: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """The first samples of a stream with 0 in place of padding."""
    found = batch.get(f"{name}.numbers")
    if found is None:
        return x
    kept = found[:, : x.shape[1]]
    if kept.shape != x.shape:
        shapes = list(found.shape), list(batch[name].shape)
        raise ValueError(f"batch['{name}.numbers'] is {shapes[0]}, but is to be {shapes[1]}")
    return x * kept


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


def numbers_present(
    batch: Mapping[str, Tensor], name: str, size: int, window: int, shape: tuple[int, ...]
) -> Tensor:
    """Which numbers [B, window, *shape] are no padding: `NAME.numbers`, all where it is absent."""
    found = batch.get(f"{name}.numbers")
    if found is None:
        return torch.ones(size, window, *shape, dtype=torch.bool, device=batch[name].device)
    return found


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


def over_numbers(error_BT: Tensor, valid_BTC: Tensor) -> Tensor:
    """Errors that are means over channels, of which the others are 0, as means over valid ones."""
    count = valid_BTC.to(error_BT.dtype).sum(dim=-1)
    return error_BT * valid_BTC.shape[-1] / count.clamp(min=1)


def l2(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean squared difference of each token [B, T]."""
    return (x_BTC - y_BTC).square().mean(dim=-1)


class Told(NamedTuple):
    """What one step of a sampler tells a trunk: the numbers of its blocks and of its last norm."""

    blocks: list[list[Row]]
    norm: list[Row]


def levels_on(like: Tensor, path: list | float) -> Tensor:
    """A path's numbers [steps, ...] with the dtype and device of `like`.

    A GPU writes them itself: copied from the host it would wait for them, and a CUDA graph cannot.
    """
    if like.is_cpu:
        return like.new_tensor(path)
    if isinstance(path, (int, float)):
        return like.new_full((), path)
    return torch.stack([levels_on(like, part) for part in path])


def folded(trunk: nn.ModuleDict, times: list[list[float]], lengths: tuple[int, ...]) -> list[Told]:
    """All that a trunk is told, step by step; a step has a time for each run of tokens, or several
    that all tokens are told together."""
    rows = trunk["time"](levels_on(next(trunk["time"].parameters()), times))
    if rows.shape[1] > len(lengths):
        rows = rows.sum(dim=1, keepdim=True)
    code = Runs(rows, lengths)
    shared = trunk["shared"](code) if "shared" in trunk else code
    blocks = [block.adaln(shared).by_step(6) for block in trunk["blocks"]]
    norm = trunk["norm"].adaln(code).by_step(2)
    return [Told(list(told), last) for *told, last in zip(*blocks, norm, strict=True)]


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


class Padded(nn.Module):
    """The model `padded`."""

    def __init__(self):
        super().__init__()

        # stream state, normalised by zscore (model.wm:4)
        self.register_buffer("state_mean", torch.zeros(4))
        self.register_buffer("state_scale", torch.ones(4))

        # stream action, normalised by zscore (model.wm:10)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # stream goal, normalised by zscore (model.wm:17)
        self.register_buffer("goal_mean", torch.zeros(2))
        self.register_buffer("goal_scale", torch.ones(2))

        # trunk policy: dit, 1 blocks, width 32, 2 heads x 16 (model.wm:23)
        self.policy = nn.ModuleDict(
            dict(
                state_in=Tokens(4, 32, 1),
                action_past_in=Tokens(3, 32, 2),
                action_future_in=Tokens(3, 32, 4),
                goal_in=Tokens(2, 32, 1),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(1)]
                ),
                norm=ModulatedNorm(32),
                action_future_out=Head(32, 3),
                goal_out=Head(32, 2),
            )
        )

    def run_policy(self, policy: Tensor, code: Runs) -> Tensor:
        """The blocks of policy (model.wm:23)."""
        for block in self.policy.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(policy, modulation)
            mixed = attention(query, key, value)
            policy = block.merge(policy, mixed, modulation)
            policy = block.feed(policy, modulation)
        return self.policy.norm(policy, code)

    def remember_policy(self, policy: Tensor, told: Told) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of policy that no step changes, block by block (model.wm:23)."""
        memory = []
        for depth, (block, modulation) in enumerate(
            zip(self.policy.blocks, told.blocks, strict=True)
        ):
            query, key, value = block.project(policy, modulation)
            memory.append((key, value))
            if depth == 0:
                break
            mixed = attention(query, key, value)
            policy = block.merge(policy, mixed, modulation)
            policy = block.feed(policy, modulation)
        return memory

    def step_policy(
        self, policy: Tensor, told: Told, memory: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The blocks of policy, seeing `memory` and themselves (model.wm:23)."""
        for block, modulation, (kept_key, kept_value) in zip(
            self.policy.blocks, told.blocks, memory, strict=True
        ):
            query, key, value = block.project(policy, modulation)
            mixed = attention(
                query, torch.cat([kept_key, key], dim=1), torch.cat([kept_value, value], dim=1)
            )
            policy = block.merge(policy, mixed, modulation)
            policy = block.feed(policy, modulation)
        return self.policy.norm.modulate(policy, told.norm)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        state = samples(batch, "state", 1, 1, (4,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        state = without_padding(batch, "state", state)
        action = samples(batch, "action", 6, 6, (3,), "model.wm:10")
        action = (action - self.action_mean) / self.action_scale
        action = without_padding(batch, "action", action)
        action_past, action_future = action.split([2, 4], dim=1)
        goal = samples(batch, "goal", 1, 1, (2,), "model.wm:17")
        goal = (goal - self.goal_mean) / self.goal_scale
        goal = without_padding(batch, "goal", goal)
        like = next(self.parameters())
        size = len(state)

        # act: action.future by flow (model.wm:34)
        action_future_time = uniform((size * 2, 1), 0, 1, like, generator)
        action_future_drawn = action_future.repeat_interleave(2, dim=0)
        action_future_noise = normal(action_future_drawn.shape, like, generator)
        action_future_noisy = torch.lerp(
            action_future_drawn, action_future_noise, action_future_time[..., None]
        )

        # aim: goal.future by flow (model.wm:43)
        goal_time = uniform((size * 2, 1), 0, 1, like, generator)
        goal_drawn = goal.repeat_interleave(2, dim=0)
        goal_noise = normal(goal_drawn.shape, like, generator)
        goal_noisy = torch.lerp(goal_drawn, goal_noise, goal_time[..., None])

        # policy (model.wm:23)
        policy = torch.cat(
            [
                self.policy.state_in(state).repeat_interleave(2, dim=0),
                self.policy.action_past_in(action_past).repeat_interleave(2, dim=0),
                self.policy.action_future_in(action_future_noisy),
                self.policy.goal_in(goal_noisy),
            ],
            dim=1,
        )
        policy_code = Runs(
            self.policy.time(
                torch.cat([like.new_zeros(size * 2, 1), action_future_time, goal_time], dim=1)
            ),
            (3, 4, 1),
        )
        policy_out = self.run_policy(policy, policy_code)

        # act: error (model.wm:34)
        action_future_out = self.policy.action_future_out(policy_out[:, 3:7])
        action_kept = numbers_present(batch, "action", size, 6, (3,))
        action_future_kept_drawn = action_kept[:, 2:6].repeat_interleave(2, dim=0)
        action_valid = validity(batch, "action", size, 6) & action_kept.any(dim=2)
        act = valid_mean(
            over_numbers(
                l2(
                    action_future_kept_drawn * action_future_out,
                    action_future_kept_drawn * (action_future_noise - action_future_drawn),
                ),
                action_future_kept_drawn,
            ),
            action_valid[:, 2:6].repeat_interleave(2, dim=0),
        )

        # aim: error (model.wm:43)
        goal_out = self.policy.goal_out(policy_out[:, 7:8])
        goal_kept = numbers_present(batch, "goal", size, 1, (2,))
        goal_kept_drawn = goal_kept.repeat_interleave(2, dim=0)
        goal_valid = validity(batch, "goal", size, 1) & goal_kept.any(dim=2)
        aim = valid_mean(
            over_numbers(
                l2(goal_kept_drawn * goal_out, goal_kept_drawn * (goal_noise - goal_drawn)),
                goal_kept_drawn,
            ),
            goal_valid.repeat_interleave(2, dim=0),
        )
        return {"loss": act + 0.3 * aim, "act": act, "aim": aim}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action.future given state, action.past (exact) (model.wm:52).

        goal.future: output ignored
        """
        state = samples(batch, "state", 1, 1, (4,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        state = without_padding(batch, "state", state)
        action = samples(batch, "action", 2, 6, (3,), "model.wm:10")
        action = (action - self.action_mean) / self.action_scale
        action = without_padding(batch, "action", action)
        like = next(self.parameters())
        size = len(state)

        # action.future by flow (model.wm:34)
        action_future = normal((size, 4, 3), like, generator)
        goal = normal((size, 1, 2), like, generator)
        policy_given = torch.cat(
            [self.policy.state_in(state), self.policy.action_past_in(action)], dim=1
        )
        policy_given_told = folded(self.policy, [[0]], (3,))[0]
        memory = self.remember_policy(policy_given, policy_given_told)
        path = descending(steps or 3)
        policy_steps = folded(self.policy, [[now] for now, then in path], (5,))
        for (now, then), policy_told in zip(path, policy_steps, strict=True):
            policy = torch.cat(
                [self.policy.action_future_in(action_future), self.policy.goal_in(goal)], dim=1
            )
            policy_out = self.step_policy(policy, policy_told, memory)
            action_future_velocity = self.policy.action_future_out(
                policy_out[:, 0:4]
            )  # model.wm:34
            action_future = action_future + (then - now) * action_future_velocity
            goal_velocity = self.policy.goal_out(policy_out[:, 4:5])  # model.wm:43
            goal = goal + (then - now) * goal_velocity
        return {"action": action_future * self.action_scale + self.action_mean}

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
        return chosen(name, {"policy": self.query_policy})(several(batch, draws), generator, steps)
