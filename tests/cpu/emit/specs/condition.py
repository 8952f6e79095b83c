"""Condition: p(a|o) p(hint'|o).

spec sha256 c33187e7ff1cc93c8bd4554a336a774cb5c1a7104eff1d47c1a6c242b00c1952
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments       batch
scene   video 3x16x16  10 Hz  now 1          [B, 1, 3, 16, 16]
body    proprio 5      20 Hz  past 2, now 1  [B, 3, 5]
hint    vector 6       20 Hz  future 4       [B, 4, 6]
action  action 3       20 Hz  future 4       [B, 4, 3]

trunk   kind  blocks  width  heads  tokens
policy  dit   2       32     2x16   scene.now:2 body.past:2 action.future:4
other   dit   1       16     1x16   body.now:1 hint.future:4

query    answer  steps     sought | given
policy   exact   action 3  action | scene, body.past, body.now
foresee  exact   hint 3    hint | body.past, body.now

70226 parameters

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


class ConvGrid(nn.Module):
    """Frames [B, F, C, H, W] -> one token per cell of the last map [B, F * cells, channels[-1]]."""

    def __init__(self, inputs: int, channels: tuple[int, ...], strides: tuple[int, ...]):
        super().__init__()
        layers = []
        for before, after, stride in zip((inputs, *channels[:-1]), channels, strides, strict=True):
            kernel = 3 if stride < 3 else 2 * stride
            layers.append(nn.Conv2d(before, after, kernel, stride, (kernel - stride + 1) // 2))
            layers.append(nn.GroupNorm(math.gcd(8, after), after))
            layers.append(nn.SiLU())
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def maps(self, x_BFCHW: Tensor) -> Tensor:
        """The last map of every frame [B * F, C, rows, columns]."""
        frames = x_BFCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.layers(frames)

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        cells = self.maps(x_BFCHW).flatten(2).transpose(1, 2)
        return cells.unflatten(0, (x_BFCHW.shape[0], -1)).flatten(1, 2)


class ConvKeypoints(ConvGrid):
    """Frames -> `tokens` tokens per frame, from key points and the flattened half-size map.

    A key point is the mean place, in -1..1, under the softmax of its map; `shrunk` are the rows
    and columns of the half-size map.
    """

    def __init__(
        self,
        inputs: int,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        shrunk: tuple[int, int],
        points: int,
        tokens: int,
    ):
        super().__init__(inputs, channels, strides)
        self.tokens = tokens
        self.points = nn.Conv2d(channels[-1], points, kernel_size=1)
        self.shrink = nn.Sequential(
            nn.Conv2d(channels[-1], 16, kernel_size=3, stride=2, padding=1),
            nn.GroupNorm(8, 16),
            nn.SiLU(),
        )
        read = 2 * points + 16 * math.prod(shrunk)
        self.outward = nn.Linear(read, tokens * channels[-1])

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        maps = self.maps(x_BFCHW)
        points = self.points(maps)
        weight = points.flatten(2).softmax(dim=-1).view_as(points)
        rows = torch.linspace(-1, 1, maps.shape[2], dtype=maps.dtype, device=maps.device)
        columns = torch.linspace(-1, 1, maps.shape[3], dtype=maps.dtype, device=maps.device)
        row = (weight.sum(dim=3) * rows).sum(dim=2)
        column = (weight.sum(dim=2) * columns).sum(dim=2)
        read = torch.cat([row, column, self.shrink(maps).flatten(1)], dim=1)
        tokens = self.outward(read)
        return tokens.view(x_BFCHW.shape[0], x_BFCHW.shape[1] * self.tokens, -1)


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


class Film(nn.Module):
    """Tokens [B, T, W] scaled and shifted by a pooled source [B, C]; starts as the identity."""

    def __init__(self, source_width: int, width: int):
        super().__init__()
        self.numbers = nn.Linear(source_width, 2 * width)
        nn.init.zeros_(self.numbers.weight)
        nn.init.zeros_(self.numbers.bias)

    def forward(self, x_BTW: Tensor, source_BC: Tensor) -> Tensor:
        scale, shift = self.numbers(source_BC)[:, None].chunk(2, dim=-1)
        return x_BTW * (1 + scale) + shift


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


def cosine(shape: Shape, like: Tensor, generator: Generator | None) -> Tensor:
    """cos(pi / 2 u) of a uniform u, more weight near 1."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return torch.cos(math.pi / 2 * draw)


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


def velocity_of(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """What a `v` head puts out: the direction of the path at a time."""
    alpha, sigma = levels(time)
    return alpha * noise - sigma * clean


def descending(steps: int, stop: float = 0.0) -> list[tuple[float, float]]:
    """(now, then) of equal steps from 1 (noise) to `stop`; 0 is clean."""
    times = [1 - (1 - stop) * step / steps for step in range(steps + 1)]
    return list(pairwise(times))


def ends_from_v(x: Tensor, velocity: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """(clean, noise) that a predicted `v` implies."""
    alpha, sigma = levels(time)
    return alpha * x - sigma * velocity, sigma * x + alpha * velocity


def ends_from_x0(x: Tensor, clean: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """(clean, noise) that predicted data imply."""
    alpha, sigma = levels(time)
    return clean, (x - alpha * clean) / sigma


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


class Condition(nn.Module):
    """The model `condition`."""

    def __init__(self):
        super().__init__()

        # stream body, normalised by zscore (model.wm:9)
        self.register_buffer("body_mean", torch.zeros(5))
        self.register_buffer("body_scale", torch.ones(5))

        # stream hint, normalised by zscore (model.wm:15)
        self.register_buffer("hint_mean", torch.zeros(6))
        self.register_buffer("hint_scale", torch.ones(6))

        # stream action, normalised by minmax (model.wm:20)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # codec eyes: conv (model.wm:26)
        self.eyes = ConvKeypoints(3, (8, 16), (2, 2), shrunk=(2, 2), points=32, tokens=2)

        # codec lift: mlp (model.wm:34)
        self.lift = Perceptron(5, 12)

        # trunk policy: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:38)
        self.policy = nn.ModuleDict(
            dict(
                scene_in=Tokens(16, 32, 2),
                body_past_in=Tokens(5, 32, 2),
                action_in=Tokens(3, 32, 4),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                action_out=Head(32, 3),
            )
        )

        # trunk other: dit, 1 blocks, width 16, 1 heads x 16 (model.wm:49)
        self.other = nn.ModuleDict(
            dict(
                body_now_in=Tokens(5, 16, 1),
                hint_in=Tokens(6, 16, 4),
                time=TimeCode(16),
                blocks=nn.ModuleList(
                    [DiTBlock(16, Heads(16, 1, 1, 16), AdaLN(16, count=6), 64) for _ in range(1)]
                ),
                norm=ModulatedNorm(16),
                hint_out=Head(16, 6),
            )
        )

        # condition code by adaln (model.wm:60)
        self.code = nn.Linear(5, 32)

        # condition tint by film (model.wm:61)
        self.tint = Film(5, 16)

        # condition lead by prefix (model.wm:62)
        self.lead = nn.Linear(10, 32)

        # condition each by adaln_per_token (model.wm:63)
        self.each = nn.Linear(5, 16)

        # condition some by film (model.wm:64)
        self.some = Film(5, 16)

    def run_policy(self, policy: Tensor, code: Runs) -> Tensor:
        """The blocks of policy (model.wm:38)."""
        for block in self.policy.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(policy, modulation)
            mixed = attention(query, key, value)
            policy = block.merge(policy, mixed, modulation)
            policy = block.feed(policy, modulation)
        return self.policy.norm(policy, code)

    def run_other(self, other: Tensor, code: Runs) -> Tensor:
        """The blocks of other (model.wm:49)."""
        for block in self.other.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(other, modulation)
            mixed = attention(query, key, value)
            other = block.merge(other, mixed, modulation)
            other = block.feed(other, modulation)
        return self.other.norm(other, code)

    def remember_other(self, other: Tensor, code: Runs) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of other that no step changes, block by block (model.wm:49)."""
        memory = []
        for depth, block in enumerate(self.other.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(other, modulation)
            memory.append((key, value))
            if depth == 0:
                break
            mixed = attention(query, key, value)
            other = block.merge(other, mixed, modulation)
            other = block.feed(other, modulation)
        return memory

    def step_other(self, other: Tensor, code: Runs, memory: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The blocks of other, seeing `memory` and themselves (model.wm:49)."""
        for block, (kept_key, kept_value) in zip(self.other.blocks, memory, strict=True):
            modulation = block.modulation(code)
            query, key, value = block.project(other, modulation)
            mixed = attention(
                query, torch.cat([kept_key, key], dim=1), torch.cat([kept_value, value], dim=1)
            )
            other = block.merge(other, mixed, modulation)
            other = block.feed(other, modulation)
        return self.other.norm(other, code)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 1, 1, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        body = samples(batch, "body", 3, 3, (5,), "model.wm:9")
        body = (body - self.body_mean) / self.body_scale
        body_past, body_now = body.split([2, 1], dim=1)
        hint = samples(batch, "hint", 4, 4, (6,), "model.wm:15")
        hint = (hint - self.hint_mean) / self.hint_scale
        action = samples(batch, "action", 4, 4, (3,), "model.wm:20")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene)
        clean = like.new_zeros(size, 1)

        # act: action.future by diffusion (model.wm:65)
        action_time = cosine((size, 1), like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = noised(action, action_noise, action_time[..., None])

        # foresee: hint.future by diffusion (model.wm:74)
        hint_time = uniform((size, 1), 0, 1, like, generator)
        hint_noise = normal(hint.shape, like, generator)
        hint_noisy = noised(hint, hint_noise, hint_time[..., None])

        # policy (model.wm:38)
        scene_eyes = self.tint(self.eyes(scene), body_now.mean(dim=1))  # model.wm:26
        body_past_lift = self.lift(body_past)  # model.wm:34
        policy = torch.cat(
            [
                self.lead(torch.cat([body_past.mean(dim=1), body_now.mean(dim=1)], dim=-1))[
                    :, None
                ],
                self.policy.scene_in(scene_eyes),
                self.policy.body_past_in(body_past_lift),
                self.policy.action_in(action_noisy),
            ],
            dim=1,
        )
        policy_code = Runs(
            self.policy.time(action_time).sum(dim=1, keepdim=True)
            + self.code(body_now.mean(dim=1))[:, None],
            (9,),
        )
        policy_out = self.run_policy(policy, policy_code)

        # other (model.wm:49)
        other = torch.cat(
            [
                self.other.body_now_in(body_now),
                self.some(self.other.hint_in(hint_noisy), body_now.mean(dim=1)),
            ],
            dim=1,
        )
        other_code = Runs(
            torch.cat(
                [
                    self.other.time(clean),
                    self.other.time(hint_time) + self.each(body_past).repeat_interleave(2, dim=1),
                ],
                dim=1,
            ),
            (1, 1, 1, 1, 1),
        )
        other_out = self.run_other(other, other_code)

        # act: error (model.wm:65)
        action_out = self.policy.action_out(policy_out[:, 5:9])
        action_valid = validity(batch, "action", size, 4)
        act = valid_mean(
            l2(action_out, velocity_of(action, action_noise, action_time[..., None])), action_valid
        )

        # foresee: error (model.wm:74)
        hint_out = self.other.hint_out(other_out[:, 1:5])
        hint_valid = validity(batch, "hint", size, 4)
        foresee = valid_mean(l2(hint_out, hint), hint_valid)
        return {"loss": act + foresee, "act": act, "foresee": foresee}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene, body.past, body.now (exact) (model.wm:83).

        body.now: deleted exactly
        hint.future: deleted exactly
        """
        scene = samples(batch, "scene", 1, 1, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        body = samples(batch, "body", 3, 3, (5,), "model.wm:9")
        body = (body - self.body_mean) / self.body_scale
        body_past, body_now = body.split([2, 1], dim=1)
        like = next(self.parameters())
        size = len(scene)

        # action.future by diffusion (model.wm:65)
        action = normal((size, 4, 3), like, generator)
        scene_eyes = self.tint(self.eyes(scene), body_now.mean(dim=1))  # model.wm:26
        body_past_lift = self.lift(body_past)  # model.wm:34
        policy_given = torch.cat(
            [
                self.lead(torch.cat([body_past.mean(dim=1), body_now.mean(dim=1)], dim=-1))[
                    :, None
                ],
                self.policy.scene_in(scene_eyes),
                self.policy.body_past_in(body_past_lift),
            ],
            dim=1,
        )
        for now, then in descending(steps or 3):
            action_time = like.new_full((size, 1), now)
            policy = torch.cat([policy_given, self.policy.action_in(action)], dim=1)
            policy_code = Runs(
                self.policy.time(action_time).sum(dim=1, keepdim=True)
                + self.code(body_now.mean(dim=1))[:, None],
                (9,),
            )
            policy_out = self.run_policy(policy, policy_code)
            action_ends = ends_from_v(
                action, self.policy.action_out(policy_out[:, 5:9]), like.new_full((1, 1, 1), now)
            )  # model.wm:65
            action = noised(action_ends[0], action_ends[1], like.new_full((1, 1, 1), then))
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_foresee(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """hint given body.past, body.now (exact) (model.wm:87).

        lead: deleted exactly
        scene.now: deleted exactly
        body.past: deleted exactly
        action.future: deleted exactly
        """
        body = samples(batch, "body", 3, 3, (5,), "model.wm:9")
        body = (body - self.body_mean) / self.body_scale
        body_past, body_now = body.split([2, 1], dim=1)
        like = next(self.parameters())
        size = len(body_past)
        clean = like.new_zeros(size, 1)

        # hint.future by diffusion (model.wm:74)
        hint = normal((size, 4, 6), like, generator)
        other_body_now = self.other.body_now_in(body_now)
        other_code = Runs(self.other.time(clean), (1,))
        memory = self.remember_other(other_body_now, other_code)
        for now, then in descending(steps or 3):
            hint_time = like.new_full((size, 1), now)
            other = self.some(self.other.hint_in(hint), body_now.mean(dim=1))
            other_code = Runs(
                self.other.time(hint_time) + self.each(body_past).repeat_interleave(2, dim=1),
                (1, 1, 1, 1),
            )
            other_out = self.step_other(other, other_code, memory)
            hint_ends = ends_from_x0(
                hint, self.other.hint_out(other_out), like.new_full((1, 1, 1), now)
            )  # model.wm:74
            hint = noised(hint_ends[0], hint_ends[1], like.new_full((1, 1, 1), then))
        return {"hint": hint * self.hint_scale + self.hint_mean}

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
        return chosen(name, {"policy": self.query_policy, "foresee": self.query_foresee})(
            several(batch, draws), generator, steps
        )
