"""Kinds: p(a|o) p(z'|o,a).

spec sha256 1470166a04650f4a6d2834b3f6de9b493e0ed557d6954290ea793dd830991c33
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type         rate   segments         batch
deep    depth 16x16  10 Hz  now 1, future 1  [B, 2, 16, 16]
state   proprio 3    10 Hz  now 1            [B, 1, 3]
action  action 2     10 Hz  future 2         [B, 2, 2]

trunk   kind  blocks  width  heads  tokens
policy  dit   2       32     2x16   deep.now:4 state.now:1 action.future:2

query   answer  steps     sought | given
policy  exact   action 3  action | deep.now, state

54426 parameters

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


class Bank(nn.ModuleList):
    """One module for each embodiment; every sample goes through its own."""

    def forward(self, x: Tensor, embodiment_B: Tensor) -> Tensor:
        every_EB = torch.stack([member(x) for member in self])
        return every_EB[embodiment_B, torch.arange(len(x), device=x.device)]


class Perceptron(nn.Sequential):
    """Features [B, T, C] through a hidden layer, back to C features."""

    def __init__(self, features: int, hidden: int):
        super().__init__(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, features))


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


def embodiments(batch: Mapping[str, Tensor], size: int, count: int, like: Tensor) -> Tensor:
    """The number of each sample's embodiment [B]; 0 where the batch names none."""
    number = batch.get("embodiment")
    if number is None:
        return torch.zeros(size, dtype=torch.int64, device=like.device)
    wanted = f"batch['embodiment'] is to be [{size}] numbers from 0 to {count - 1}"
    if number.shape != (size,):
        raise ValueError(wanted)
    known = ((number >= 0) & (number < count)).all()
    if number.is_cuda:
        torch._assert_async(known, wanted)  # the host does not wait for a GPU's answer
    elif not known:
        raise ValueError(wanted)
    return number


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


def patchify(x_BFCHW: Tensor, height: int, width: int) -> Tensor:
    """Frames -> tokens [B, F * rows * columns, C * height * width]."""
    x = x_BFCHW.unflatten(4, (-1, width)).unflatten(3, (-1, height))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


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


def source_factors(
    batch: Mapping[str, Tensor], size: int, factors: tuple[float, ...], like: Tensor
) -> Tensor:
    """What each sample counts [B, 1] by the number of its data source; 1 for any other."""
    number = batch.get("source")
    if number is None:
        return like.new_ones(size, 1)
    return like.new_tensor((*factors, 1.0))[number][:, None]


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


class Kinds(nn.Module):
    """The model `kinds`."""

    def __init__(self):
        super().__init__()

        # stream state, normalised by zscore (model.wm:10)
        self.register_buffer("state_mean", torch.zeros(3))
        self.register_buffer("state_scale", torch.ones(3))

        # stream action, normalised by zscore (model.wm:16)
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_scale", torch.ones(2))

        # codec body: mlp (model.wm:26)
        self.body = Bank([Perceptron(3, 8) for _ in range(2)])

        # trunk policy: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:30)
        self.policy = nn.ModuleDict(
            dict(
                deep_now_in=Tokens(64, 32, 4),
                state_in=Bank([Tokens(3, 32, 1) for _ in range(2)]),
                action_in=Bank([Tokens(2, 32, 2) for _ in range(2)]),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                action_out=Bank([Head(32, 2) for _ in range(2)]),
            )
        )

        # align foresight by l2, same teacher (model.wm:41)
        self.foresight = nn.Linear(32, 64)

    def run_policy(self, policy: Tensor, code: Runs) -> Tensor:
        """The blocks of policy (model.wm:30)."""
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
        deep = samples(batch, "deep", 2, 2, (16, 16), "model.wm:4")
        deep_now, deep_future = deep.split([1, 1], dim=1)
        state = samples(batch, "state", 1, 1, (3,), "model.wm:10")
        state = (state - self.state_mean) / self.state_scale
        action = samples(batch, "action", 2, 2, (2,), "model.wm:16")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(deep_now)
        embodiment = embodiments(batch, size, 2, like)
        clean = like.new_zeros(size, 1)

        # act: action.future by flow (model.wm:46)
        action_time = uniform((size, 1), 0, 1, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = torch.lerp(action, action_noise, action_time[..., None])

        # policy (model.wm:30)
        deep_now_patches = patchify(deep_now[:, :, None], 8, 8)  # model.wm:22
        state_body = self.body(state, embodiment)  # model.wm:26
        policy = torch.cat(
            [
                self.policy.deep_now_in(deep_now_patches),
                self.policy.state_in(state_body, embodiment),
                self.policy.action_in(action_noisy, embodiment),
            ],
            dim=1,
        )
        policy_code = Runs(self.policy.time(torch.cat([clean, action_time], dim=1)), (5, 2))
        policy_out = self.run_policy(policy, policy_code)

        # act: error (model.wm:46)
        action_out = self.policy.action_out(policy_out[:, 5:7], embodiment)
        action_valid = validity(batch, "action", size, 2)
        act = valid_mean(l2(action_out, action_noise - action), action_valid)

        # foresight: distance to the same teacher (model.wm:41)
        foresight_predicted = self.foresight(policy_out[:, 0:4])
        deep_future_patches = patchify(deep_future[:, :, None], 8, 8)  # model.wm:22
        deep_valid = validity(batch, "deep", size, 2)

        # foresight: samples of videos count differently
        foresight = valid_mean(
            source_factors(batch, size, (4,), like) * l2(foresight_predicted, deep_future_patches),
            deep_valid[:, 1:2],
        )
        return {"loss": act + 0.5 * foresight, "act": act, "foresight": foresight}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given deep.now, state (exact) (model.wm:55).

        foresight: head skipped
        """
        deep = samples(batch, "deep", 1, 2, (16, 16), "model.wm:4")
        state = samples(batch, "state", 1, 1, (3,), "model.wm:10")
        state = (state - self.state_mean) / self.state_scale
        like = next(self.parameters())
        size = len(deep)
        embodiment = embodiments(batch, size, 2, like)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:46)
        action = normal((size, 2, 2), like, generator)
        deep_now_patches = patchify(deep[:, :, None], 8, 8)  # model.wm:22
        state_body = self.body(state, embodiment)  # model.wm:26
        policy_given = torch.cat(
            [
                self.policy.deep_now_in(deep_now_patches),
                self.policy.state_in(state_body, embodiment),
            ],
            dim=1,
        )
        for now, then in descending(steps or 3):
            action_time = like.new_full((size, 1), now)
            policy = torch.cat([policy_given, self.policy.action_in(action, embodiment)], dim=1)
            policy_code = Runs(self.policy.time(torch.cat([clean, action_time], dim=1)), (5, 2))
            policy_out = self.run_policy(policy, policy_code)
            action_velocity = self.policy.action_out(policy_out[:, 5:7], embodiment)  # model.wm:46
            action = action + (then - now) * action_velocity
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_passive_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """deep.future given deep.now, state (exact) (model.wm:3).

        action.future: not optional
        """
        deep = samples(batch, "deep", 1, 2, (16, 16), "model.wm:4")
        state = samples(batch, "state", 1, 1, (3,), "model.wm:10")
        state = (state - self.state_mean) / self.state_scale
        like = next(self.parameters())
        size = len(deep)
        embodiment = embodiments(batch, size, 2, like)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:46)
        action = normal((size, 2, 2), like, generator)
        deep_now_patches = patchify(deep[:, :, None], 8, 8)  # model.wm:22
        state_body = self.body(state, embodiment)  # model.wm:26
        policy_given = torch.cat(
            [
                self.policy.deep_now_in(deep_now_patches),
                self.policy.state_in(state_body, embodiment),
            ],
            dim=1,
        )
        for now, then in descending(steps or 3):
            action_time = like.new_full((size, 1), now)
            policy = torch.cat([policy_given, self.policy.action_in(action, embodiment)], dim=1)
            policy_code = Runs(self.policy.time(torch.cat([clean, action_time], dim=1)), (5, 2))
            policy_out = self.run_policy(policy, policy_code)
            action_velocity = self.policy.action_out(policy_out[:, 5:7], embodiment)  # model.wm:46
            action = action + (then - now) * action_velocity

        # deep.future by align (model.wm:41)
        policy = torch.cat(
            [
                self.policy.deep_now_in(deep_now_patches),
                self.policy.state_in(state_body, embodiment),
                self.policy.action_in(action, embodiment),
            ],
            dim=1,
        )
        policy_code = Runs(self.policy.time(clean), (7,))
        policy_out = self.run_policy(policy, policy_code)
        foresight_predicted = self.foresight(policy_out[:, 0:4])
        return {"foresight": foresight_predicted}

    @torch.no_grad()
    def query_controllable_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """deep.future given deep.now, state, action (exact) (model.wm:3)."""
        deep = samples(batch, "deep", 1, 2, (16, 16), "model.wm:4")
        state = samples(batch, "state", 1, 1, (3,), "model.wm:10")
        state = (state - self.state_mean) / self.state_scale
        action = samples(batch, "action", 2, 2, (2,), "model.wm:16")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(deep)
        embodiment = embodiments(batch, size, 2, like)
        clean = like.new_zeros(size, 1)

        # deep.future by align (model.wm:41)
        deep_now_patches = patchify(deep[:, :, None], 8, 8)  # model.wm:22
        state_body = self.body(state, embodiment)  # model.wm:26
        policy = torch.cat(
            [
                self.policy.deep_now_in(deep_now_patches),
                self.policy.state_in(state_body, embodiment),
                self.policy.action_in(action, embodiment),
            ],
            dim=1,
        )
        policy_code = Runs(self.policy.time(clean), (7,))
        policy_out = self.run_policy(policy, policy_code)
        foresight_predicted = self.foresight(policy_out[:, 0:4])
        return {"foresight": foresight_predicted}

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
                "passive_world_model": self.query_passive_world_model,
                "controllable_world_model": self.query_controllable_world_model,
                "passive": self.query_passive_world_model,
                "controllable": self.query_controllable_world_model,
            },
        )(several(batch, draws), generator, steps)
