"""Weighted: p(left',right',a|o).

spec sha256 7dc0a0891ecd8d6fdf7281fb7648982748782152d85ddcdd390e0cd15d9bc651
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type      rate   segments         batch
left    vector 2  10 Hz  now 1, future 3  [B, 4, 2]
right   vector 3  10 Hz  future 2         [B, 2, 3]
action  action 2  10 Hz  future 2         [B, 2, 2]

trunk   kind  blocks  width  heads  tokens
policy  dit   2       32     2x16   left.now:1 left.future:3 right.future:2 action.future:2

query   answer  steps     sought | given
policy  exact   action 3  action | left.now, left.future, right

50119 parameters

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


def levels(time: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of data and noise at a time from 0 (clean) to 1 (noise)."""
    return torch.cos(math.pi / 2 * time), torch.sin(math.pi / 2 * time)


def noised(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """The point of the path at a time."""
    alpha, sigma = levels(time)
    return alpha * clean + sigma * noise


def lognormal(
    shape: Shape, mean: float, deviation: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Noise levels of EDM: exp of a normal variable."""
    draw = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    return torch.exp(mean + deviation * draw)


Level = Tensor | float


def scaled(x: Tensor, level: Level, deviation: float) -> Tensor:
    """What a trunk reads of a noisy x."""
    return x / (deviation**2 + level**2) ** 0.5


def told_level(level: Level) -> Level:
    """The time from 0 (clean) to 1 (pure noise) that stands for a level."""
    return level / (1 + level)


def shifted(time: Tensor | float, shift: float) -> Tensor | float:
    """The time moved towards noise by a shift above 1: a number or a tensor."""
    return shift * time / (1 + (shift - 1) * time)


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


def bell(time: Tensor) -> Tensor:
    """Weight of an error at a time: a bell around the middle, 0 at both ends, 1 in the mean."""
    at_the_ends, mean = math.exp(-0.5), 0.2490937321795
    return (torch.exp(-2 * (time - 0.5) ** 2) - at_the_ends) / mean


def l2(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean squared difference of each token [B, T]."""
    return (x_BTC - y_BTC).square().mean(dim=-1)


def denoised(x: Tensor, output: Tensor, level: Level, deviation: float) -> Tensor:
    """The clean data that a head's output implies."""
    total = deviation**2 + level**2
    return deviation**2 / total * x + level * deviation / total**0.5 * output


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


class Weighted(nn.Module):
    """The model `weighted`."""

    def __init__(self):
        super().__init__()

        # stream left, normalised by zscore (model.wm:4)
        self.register_buffer("left_mean", torch.zeros(2))
        self.register_buffer("left_scale", torch.ones(2))

        # stream right, normalised by zscore (model.wm:10)
        self.register_buffer("right_mean", torch.zeros(3))
        self.register_buffer("right_scale", torch.ones(3))

        # stream action, normalised by zscore (model.wm:15)
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_scale", torch.ones(2))

        # trunk policy: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:20)
        self.policy = nn.ModuleDict(
            dict(
                left_now_in=Tokens(2, 32, 1),
                left_future_in=Tokens(2, 32, 3),
                right_in=Tokens(3, 32, 2),
                action_in=Tokens(2, 32, 2),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                left_future_out=Head(32, 2),
                right_out=Head(32, 3),
                action_out=Head(32, 2),
            )
        )

    def run_policy(self, policy: Tensor, code: Runs) -> Tensor:
        """The blocks of policy (model.wm:20)."""
        for block in self.policy.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(policy, modulation)
            mixed = attention(query, key, value)
            policy = block.merge(policy, mixed, modulation)
            policy = block.feed(policy, modulation)
        return self.policy.norm(policy, code)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        left = samples(batch, "left", 4, 4, (2,), "model.wm:4")
        left = (left - self.left_mean) / self.left_scale
        left_now, left_future = left.split([1, 3], dim=1)
        right = samples(batch, "right", 2, 2, (3,), "model.wm:10")
        right = (right - self.right_mean) / self.right_scale
        action = samples(batch, "action", 2, 2, (2,), "model.wm:15")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(left_now)
        clean = like.new_zeros(size, 1)

        # ahead: left.future by diffusion (model.wm:31)
        left_future_time = uniform((size, 3), 0, 1, like, generator)
        left_future_noise = normal(left_future.shape, like, generator)
        left_future_noisy = noised(left_future, left_future_noise, left_future_time[..., None])

        # aside: right.future by edm (model.wm:40)
        right_level = lognormal((size, 1), -1.2, 1.2, like, generator)
        right_noise = normal(right.shape, like, generator)
        right_noisy = right + right_level[..., None] * right_noise
        right_scaled = scaled(right_noisy, right_level[..., None], 0.5)
        right_time = told_level(right_level)

        # act: action.future by flow (model.wm:51)
        action_time = shifted(uniform((size, 1), 0, 1, like, generator), 3)
        action_noise = normal(action.shape, like, generator)
        action_noisy = torch.lerp(action, action_noise, action_time[..., None])

        # policy (model.wm:20)
        policy = torch.cat(
            [
                self.policy.left_now_in(left_now),
                self.policy.left_future_in(left_future_noisy),
                self.policy.right_in(right_scaled),
                self.policy.action_in(action_noisy),
            ],
            dim=1,
        )
        policy_code = Runs(
            self.policy.time(torch.cat([clean, left_future_time, right_time, action_time], dim=1)),
            (1, 1, 1, 1, 2, 2),
        )
        policy_out = self.run_policy(policy, policy_code)

        # ahead: error (model.wm:31)
        left_future_out = self.policy.left_future_out(policy_out[:, 1:4])
        left_valid = validity(batch, "left", size, 4)
        ahead = valid_mean(
            bell(left_future_time) * l2(left_future_out, left_future), left_valid[:, 1:4]
        )

        # aside: error (model.wm:40)
        right_out = self.policy.right_out(policy_out[:, 4:6])
        right_denoised = denoised(right_noisy, right_out, right_level[..., None], 0.5)
        right_valid = validity(batch, "right", size, 2)
        aside = valid_mean(bell(right_time) * l2(right_denoised, right), right_valid)

        # act: error (model.wm:51)
        action_out = self.policy.action_out(policy_out[:, 6:8])
        action_valid = validity(batch, "action", size, 2)
        act = valid_mean(bell(action_time) * l2(action_out, action_noise - action), action_valid)
        return {"loss": ahead + 0.3 * aside + act, "ahead": ahead, "aside": aside, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given left.now, left.future, right (exact) (model.wm:60)."""
        left = samples(batch, "left", 4, 4, (2,), "model.wm:4")
        left = (left - self.left_mean) / self.left_scale
        left_now, left_future = left.split([1, 3], dim=1)
        right = samples(batch, "right", 2, 2, (3,), "model.wm:10")
        right = (right - self.right_mean) / self.right_scale
        like = next(self.parameters())
        size = len(left_now)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:51)
        action = normal((size, 2, 2), like, generator)
        policy_given = torch.cat(
            [
                self.policy.left_now_in(left_now),
                self.policy.left_future_in(left_future),
                self.policy.right_in(right / 0.5),
            ],
            dim=1,
        )
        for now, then in descending(steps or 3):
            act_now = shifted(now, 3)
            act_then = shifted(then, 3)
            action_time = like.new_full((size, 1), act_now)
            policy = torch.cat([policy_given, self.policy.action_in(action)], dim=1)
            policy_code = Runs(self.policy.time(torch.cat([clean, action_time], dim=1)), (6, 2))
            policy_out = self.run_policy(policy, policy_code)
            action_velocity = self.policy.action_out(policy_out[:, 6:8])  # model.wm:51
            action = action + (act_then - act_now) * action_velocity
        return {"action": action * self.action_scale + self.action_mean}

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
