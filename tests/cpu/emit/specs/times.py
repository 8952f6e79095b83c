"""Times: p(left',right',a|o).

spec sha256 93950ee79173e59af750afc7654eceae9ab530cae6d1b20e560cc329219936b2
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type      rate   segments         batch
left    vector 2  10 Hz  now 1, future 2  [B, 3, 2]
right   vector 3  10 Hz  future 2         [B, 2, 3]
action  action 2  10 Hz  future 2         [B, 2, 2]

trunk   kind  blocks  width  heads  tokens
policy  dit   2       32     2x16   left.now:1 left.future:2 right.future:2 action.future:2

query    answer       steps                    sought | given
policy   approximate  action 3                 action | left.now
predict  exact        left 3 right 3 action 3  left.future, right | left.now

50087 parameters

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


def fixed(shape: Shape, time: float, like: Tensor) -> Tensor:
    """Always the same time."""
    return torch.full(shape, time, dtype=like.dtype, device=like.device)


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


def shifted(time: Tensor | float, shift: float) -> Tensor | float:
    """The time moved towards noise by a shift above 1: a number or a tensor."""
    return shift * time / (1 + (shift - 1) * time)


def uniform(
    shape: Shape, low: float, high: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Uniform between `low` and `high`."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return low + (high - low) * draw


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


def l2(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean squared difference of each token [B, T]."""
    return (x_BTC - y_BTC).square().mean(dim=-1)


def descending(steps: int, stop: float = 0.0) -> list[tuple[float, float]]:
    """(now, then) of equal steps from 1 (noise) to `stop`; 0 is clean."""
    times = [1 - (1 - stop) * step / steps for step in range(steps + 1)]
    return list(pairwise(times))


def ends_from_eps(x: Tensor, eps: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """(clean, noise) that a predicted noise implies; the share of data is taken as 0.02 or more."""
    alpha, sigma = levels(time)
    return (x - sigma * eps) / alpha.clamp(min=0.02), eps


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


class Times(nn.Module):
    """The model `times`."""

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
                left_future_in=Tokens(2, 32, 2),
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
        left = samples(batch, "left", 3, 3, (2,), "model.wm:4")
        left = (left - self.left_mean) / self.left_scale
        left_now, left_future = left.split([1, 2], dim=1)
        right = samples(batch, "right", 2, 2, (3,), "model.wm:10")
        right = (right - self.right_mean) / self.right_scale
        action = samples(batch, "action", 2, 2, (2,), "model.wm:15")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(left_now)
        clean = like.new_zeros(size, 1)

        # both: left.future, right.future by diffusion (model.wm:31)
        both_time = fixed((size, 1), 0.7, like)
        left_future_noise = normal(left_future.shape, like, generator)
        left_future_noisy = noised(left_future, left_future_noise, both_time[..., None])
        right_noise = normal(right.shape, like, generator)
        right_noisy = noised(right, right_noise, both_time[..., None])

        # act: action.future by diffusion (model.wm:40)
        action_time = shifted(uniform((size, 1), 0.2, 1, like, generator), 2)
        action_noise = normal(action.shape, like, generator)
        action_noisy = noised(action, action_noise, action_time[..., None])

        # policy (model.wm:20)
        policy = torch.cat(
            [
                self.policy.left_now_in(left_now),
                self.policy.left_future_in(left_future_noisy),
                self.policy.right_in(right_noisy),
                self.policy.action_in(action_noisy),
            ],
            dim=1,
        )
        policy_code = Runs(
            self.policy.time(torch.cat([clean, both_time, action_time], dim=1)), (1, 4, 2)
        )
        policy_out = self.run_policy(policy, policy_code)

        # both: error (model.wm:31)
        left_future_out = self.policy.left_future_out(policy_out[:, 1:3])
        left_valid = validity(batch, "left", size, 3)
        left_future_error = valid_mean(l2(left_future_out, left_future_noise), left_valid[:, 1:3])
        right_out = self.policy.right_out(policy_out[:, 3:5])
        right_valid = validity(batch, "right", size, 2)
        right_error = valid_mean(l2(right_out, right_noise), right_valid)
        both = (left_future_error + right_error) / 2

        # act: error (model.wm:40)
        action_out = self.policy.action_out(policy_out[:, 5:7])
        action_valid = validity(batch, "action", size, 2)
        act = valid_mean(l2(action_out, action_noise), action_valid)
        return {"loss": both + act, "both": both, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given left.now (approximate) (model.wm:49).

        left.future: pinned at noise
        right.future: pinned at noise
        """
        left = samples(batch, "left", 1, 3, (2,), "model.wm:4")
        left = (left - self.left_mean) / self.left_scale
        like = next(self.parameters())
        size = len(left)
        clean = like.new_zeros(size, 1)

        # action.future by diffusion (model.wm:40)
        left_future_pinned = normal((size, 2, 2), like, generator)
        right_pinned = normal((size, 2, 3), like, generator)
        action = normal((size, 2, 2), like, generator)
        policy_given = torch.cat(
            [
                self.policy.left_now_in(left),
                self.policy.left_future_in(left_future_pinned),
                self.policy.right_in(right_pinned),
            ],
            dim=1,
        )
        for now, then in descending(steps or 3):
            act_now = shifted(now, 2)
            act_then = shifted(then, 2)
            action_time = like.new_full((size, 1), act_now)
            policy = torch.cat([policy_given, self.policy.action_in(action)], dim=1)
            policy_code = Runs(
                self.policy.time(torch.cat([clean, like.new_ones(size, 1), action_time], dim=1)),
                (1, 4, 2),
            )
            policy_out = self.run_policy(policy, policy_code)
            action_ends = ends_from_eps(
                action,
                self.policy.action_out(policy_out[:, 5:7]),
                like.new_full((1, 1, 1), act_now),
            )  # model.wm:40
            action = noised(action_ends[0], action_ends[1], like.new_full((1, 1, 1), act_then))
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_predict(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """left.future, right given left.now (exact) (model.wm:54).

        action.future: output ignored
        """
        left = samples(batch, "left", 1, 3, (2,), "model.wm:4")
        left = (left - self.left_mean) / self.left_scale
        like = next(self.parameters())
        size = len(left)
        clean = like.new_zeros(size, 1)

        # left.future and right.future by diffusion (model.wm:31)
        left_future = normal((size, 2, 2), like, generator)
        right = normal((size, 2, 3), like, generator)
        action = normal((size, 2, 2), like, generator)
        policy_left_now = self.policy.left_now_in(left)
        for now, then in descending(steps or 3):
            left_future_time = like.new_full((size, 1), now)
            right_time = like.new_full((size, 1), now)
            act_now = shifted(now, 2)
            act_then = shifted(then, 2)
            action_time = like.new_full((size, 1), act_now)
            policy = torch.cat(
                [
                    policy_left_now,
                    self.policy.left_future_in(left_future),
                    self.policy.right_in(right),
                    self.policy.action_in(action),
                ],
                dim=1,
            )
            policy_code = Runs(
                self.policy.time(
                    torch.cat([clean, left_future_time, right_time, action_time], dim=1)
                ),
                (1, 2, 2, 2),
            )
            policy_out = self.run_policy(policy, policy_code)
            left_future_ends = ends_from_eps(
                left_future,
                self.policy.left_future_out(policy_out[:, 1:3]),
                like.new_full((1, 1, 1), now),
            )  # model.wm:31
            left_future = noised(
                left_future_ends[0], left_future_ends[1], like.new_full((1, 1, 1), then)
            )
            right_ends = ends_from_eps(
                right, self.policy.right_out(policy_out[:, 3:5]), like.new_full((1, 1, 1), now)
            )  # model.wm:31
            right = noised(right_ends[0], right_ends[1], like.new_full((1, 1, 1), then))
            action_ends = ends_from_eps(
                action,
                self.policy.action_out(policy_out[:, 5:7]),
                like.new_full((1, 1, 1), act_now),
            )  # model.wm:40
            action = noised(action_ends[0], action_ends[1], like.new_full((1, 1, 1), act_then))
        return {
            "left": left_future * self.left_scale + self.left_mean,
            "right": right * self.right_scale + self.right_mean,
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
        return chosen(name, {"policy": self.query_policy, "predict": self.query_predict})(
            several(batch, draws), generator, steps
        )
