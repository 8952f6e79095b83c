"""Edm: p(scene'|o) p(a|o,scene').

spec sha256 1e70ed4981fcf5155ab8588a7840d129da6bfe2e6b44c2bb215b741ee14a3958
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type       rate   segments  batch
state   proprio 3  10 Hz  now 2     [B, 2, 3]
scene   vector 4   10 Hz  future 2  [B, 2, 4]
action  action 2   10 Hz  future 4  [B, 4, 2]

trunk  kind  blocks  width  heads  tokens
seer   dit   2       32     2x16   state.now:2 scene.future:2
doer   dit   2       32     2x16   action.future:4

query    answer  steps             sought | given
policy   exact   scene 3 action 3  action | state
imagine  exact   scene 3           scene | state

107846 parameters

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


class CrossAttention(nn.Module):
    """Tokens [B, T, W] read source tokens [B, S, C]; the result is added to them."""

    def __init__(self, width: int, source_width: int, heads: int, kv_heads: int, head_dim: int):
        super().__init__()
        self.head_dim = head_dim
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, heads * head_dim)
        self.key_value = nn.Linear(source_width, 2 * kv_heads * head_dim)
        self.outward = nn.Linear(heads * head_dim, width)

    def read(self, x_BTW: Tensor, source_BSC: Tensor) -> Tensor:
        """What the tokens read [B, T, W]."""
        query = self.query(self.norm(x_BTW)).unflatten(-1, (-1, self.head_dim))
        key, value = self.key_value(source_BSC).unflatten(-1, (-1, self.head_dim)).chunk(2, dim=2)
        return self.outward(attention(query, key, value).flatten(2))

    def forward(self, x_BTW: Tensor, source_BSC: Tensor) -> Tensor:
        return x_BTW + self.read(x_BTW, source_BSC)


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


def mix(draws: list[Tensor], shares: list[float], generator: Generator | None) -> Tensor:
    """For each sample one of the draws, each with its share as the chance."""
    first = draws[0]
    ends = torch.tensor(shares, dtype=first.dtype, device=first.device).cumsum(dim=0)
    draw = torch.rand(first.shape, generator=generator, dtype=first.dtype, device=first.device)
    which = torch.bucketize(draw * ends[-1], ends, right=True).clamp(max=len(draws) - 1)
    return torch.stack(draws).gather(0, which[None])[0]


Shape = tuple[int, ...]


def lognormal(
    shape: Shape, mean: float, deviation: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Noise levels of EDM: exp of a normal variable."""
    draw = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    return torch.exp(mean + deviation * draw)


def uniform(
    shape: Shape, low: float, high: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Uniform between `low` and `high`."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return low + (high - low) * draw


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal noise with the dtype and device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


Level = Tensor | float


def scaled(x: Tensor, level: Level, deviation: float) -> Tensor:
    """What a trunk reads of a noisy x."""
    return x / (deviation**2 + level**2) ** 0.5


def told_level(level: Level) -> Level:
    """The time from 0 (clean) to 1 (pure noise) that stands for a level."""
    return level / (1 + level)


def loglogistic(
    shape: Shape, mean: float, scale: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Noise levels of EDM: exp of a logistic variable; a millionth at either end is cut off."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return torch.exp(mean + scale * torch.logit(draw, eps=1e-6))


def denoised(x: Tensor, output: Tensor, level: Level, deviation: float) -> Tensor:
    """The clean data that a head's output implies."""
    total = deviation**2 + level**2
    return deviation**2 / total * x + level * deviation / total**0.5 * output


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


def edm_weight(level: Level, deviation: float) -> Level:
    """The weight under which every level asks an error of unit size of the head."""
    return (deviation**2 + level**2) / (deviation * level) ** 2


def l2(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean squared difference of each token [B, T]."""
    return (x_BTC - y_BTC).square().mean(dim=-1)


def descending_levels(
    steps: int, low: float, high: float, stop: float = 0.0
) -> list[tuple[float, float]]:
    """(now, then) from `high` to `low` and then to `stop`, even in the seventh root."""
    last = max(low, stop)
    ends = high ** (1 / 7), last ** (1 / 7)
    count = steps if stop < low else steps + 1
    levels = [
        (ends[0] + (ends[1] - ends[0]) * step / max(count - 1, 1)) ** 7 for step in range(count)
    ]
    if stop < low:
        levels.append(stop)
    return list(pairwise(levels))


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


class Edm(nn.Module):
    """The model `edm`."""

    def __init__(self):
        super().__init__()

        # stream state, normalised by zscore (model.wm:4)
        self.register_buffer("state_mean", torch.zeros(3))
        self.register_buffer("state_scale", torch.ones(3))

        # stream scene, normalised by zscore (model.wm:9)
        self.register_buffer("scene_mean", torch.zeros(4))
        self.register_buffer("scene_scale", torch.ones(4))

        # stream action, normalised by zscore (model.wm:14)
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_scale", torch.ones(2))

        # trunk seer: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:19)
        self.seer = nn.ModuleDict(
            dict(
                state_in=Tokens(3, 32, 2),
                scene_in=Tokens(4, 32, 2),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                scene_out=Head(32, 4),
            )
        )

        # trunk doer: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:30)
        self.doer = nn.ModuleDict(
            dict(
                action_in=Tokens(2, 32, 4),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                action_out=Head(32, 2),
            )
        )

        # cross watch -> doer (model.wm:41)
        self.watch = nn.ModuleList([CrossAttention(32, 32, 2, 2, 16) for _ in range(2)])

    def run_seer(self, seer: Tensor, code: Runs) -> Tensor:
        """The blocks of seer (model.wm:19)."""
        for block in self.seer.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(seer, modulation)
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
        return self.seer.norm(seer, code)

    def run_seer_(self, seer: Tensor, code: Runs) -> Tensor:
        """The blocks of seer (model.wm:19)."""
        for depth, block in enumerate(self.seer.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(seer, modulation)
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
            if depth == 0:
                seer_after_1 = seer
        return seer_after_1

    def run_doer(self, doer: Tensor, code: Runs, watch: Tensor) -> Tensor:
        """The blocks of doer (model.wm:30)."""
        for depth, block in enumerate(self.doer.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(doer, modulation)
            mixed = attention(query, key, value)
            doer = block.merge(doer, mixed, modulation)
            doer = self.watch[depth](doer, watch)  # model.wm:41
            doer = block.feed(doer, modulation)
        return self.doer.norm(doer, code)

    def run_seer_to_1(self, seer: Tensor, code: Runs) -> Tensor:
        """The blocks of seer (model.wm:19)."""
        for depth, block in enumerate(self.seer.blocks[:1]):
            modulation = block.modulation(code)
            query, key, value = block.project(seer, modulation)
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
            if depth == 0:
                seer_after_1 = seer
        return seer_after_1

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        state = samples(batch, "state", 2, 2, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        scene = samples(batch, "scene", 2, 2, (4,), "model.wm:9")
        scene = (scene - self.scene_mean) / self.scene_scale
        action = samples(batch, "action", 4, 4, (2,), "model.wm:14")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(state)
        clean = like.new_zeros(size, 1)

        # foresight: scene.future by edm (model.wm:45)
        scene_level = 2 * mix(
            [
                lognormal((size, 2), 0.5, 1, like, generator),
                uniform((size, 2), 1, 9, like, generator),
            ],
            [0.7, 0.3],
            generator,
        )
        scene_noise = normal(scene.shape, like, generator)
        scene_noisy = scene + scene_level[..., None] * scene_noise
        scene_scaled = scaled(scene_noisy, scene_level[..., None], 1)
        scene_time = told_level(scene_level)

        # act: action.future by edm (model.wm:56)
        action_level = loglogistic((size, 1), -0.69, 0.5, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = action + action_level[..., None] * action_noise
        action_scaled = scaled(action_noisy, action_level[..., None], 0.5)
        action_time = told_level(action_level)

        # seer (model.wm:19)
        seer = torch.cat([self.seer.state_in(state), self.seer.scene_in(scene_scaled)], dim=1)
        seer_code = Runs(self.seer.time(torch.cat([clean, scene_time], dim=1)), (2, 1, 1))
        seer_out = self.run_seer(seer, seer_code)

        # seer, read at time 0.5 (model.wm:19)
        scene_held = scaled(scene + 1 * normal(scene.shape, like, generator), 1, 1)
        seer_ = torch.cat([self.seer.state_in(state), self.seer.scene_in(scene_held)], dim=1)
        seer_code_ = Runs(
            self.seer.time(torch.cat([clean, like.new_full((size, 1), 0.5)], dim=1)), (2, 2)
        )
        seer_after_1_held = self.run_seer_(seer_, seer_code_)

        # doer (model.wm:30)
        doer = self.doer.action_in(action_scaled)
        doer_code = Runs(self.doer.time(action_time), (4,))
        doer_out = self.run_doer(doer, doer_code, seer_after_1_held.detach())

        # foresight: error (model.wm:45)
        scene_out = self.seer.scene_out(seer_out[:, 2:4])
        scene_denoised = denoised(scene_noisy, scene_out, scene_level[..., None], 1)
        scene_valid = validity(batch, "scene", size, 2)
        foresight = valid_mean(edm_weight(scene_level, 1) * l2(scene_denoised, scene), scene_valid)

        # act: error (model.wm:56)
        action_out = self.doer.action_out(doer_out)
        action_denoised = denoised(action_noisy, action_out, action_level[..., None], 0.5)
        action_valid = validity(batch, "action", size, 4)
        act = valid_mean(edm_weight(action_level, 0.5) * l2(action_denoised, action), action_valid)
        return {"loss": 0.5 * foresight + act, "foresight": foresight, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given state (exact) (model.wm:67).

        scene.future: not optional
        """
        state = samples(batch, "state", 2, 2, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        like = next(self.parameters())
        size = len(state)
        clean = like.new_zeros(size, 1)

        # scene.future by edm (model.wm:45)
        scene = 40 * normal((size, 2, 4), like, generator)
        seer_state_now = self.seer.state_in(state)
        for now, then in descending_levels(steps or 3, 0.004, 40, 1):
            scene_scaled = scaled(scene, now, 1)
            scene_time = like.new_full((size, 1), told_level(now))
            seer = torch.cat([seer_state_now, self.seer.scene_in(scene_scaled)], dim=1)
            seer_code = Runs(self.seer.time(torch.cat([clean, scene_time], dim=1)), (2, 2))
            seer_out = self.run_seer(seer, seer_code)
            scene = torch.lerp(
                denoised(scene, self.seer.scene_out(seer_out[:, 2:4]), now, 1).to(scene),
                scene,
                then / now,
            )  # model.wm:45

        # action.future by edm (model.wm:56)
        action = 80 * normal((size, 4, 2), like, generator)
        seer_ = torch.cat(
            [self.seer.state_in(state), self.seer.scene_in(scaled(scene, 1, 1))], dim=1
        )
        seer_code_ = Runs(
            self.seer.time(torch.cat([clean, like.new_full((size, 1), 0.5)], dim=1)), (2, 2)
        )
        seer_after_1_held = self.run_seer_to_1(seer_, seer_code_)
        for now, then in descending_levels(steps or 3, 0.002, 80):
            action_scaled = scaled(action, now, 0.5)
            action_time = like.new_full((size, 1), told_level(now))
            doer = self.doer.action_in(action_scaled)
            doer_code = Runs(self.doer.time(action_time), (4,))
            doer_out = self.run_doer(doer, doer_code, seer_after_1_held.detach())
            action = torch.lerp(
                denoised(action, self.doer.action_out(doer_out), now, 0.5).to(action),
                action,
                then / now,
            )  # model.wm:56
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_imagine(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene given state (exact) (model.wm:71).

        action.future: deleted exactly
        """
        state = samples(batch, "state", 2, 2, (3,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        like = next(self.parameters())
        size = len(state)
        clean = like.new_zeros(size, 1)

        # scene.future by edm (model.wm:45)
        scene = 40 * normal((size, 2, 4), like, generator)
        seer_state_now = self.seer.state_in(state)
        for now, then in descending_levels(steps or 3, 0.004, 40):
            scene_scaled = scaled(scene, now, 1)
            scene_time = like.new_full((size, 1), told_level(now))
            seer = torch.cat([seer_state_now, self.seer.scene_in(scene_scaled)], dim=1)
            seer_code = Runs(self.seer.time(torch.cat([clean, scene_time], dim=1)), (2, 2))
            seer_out = self.run_seer(seer, seer_code)
            scene = torch.lerp(
                denoised(scene, self.seer.scene_out(seer_out[:, 2:4]), now, 1).to(scene),
                scene,
                then / now,
            )  # model.wm:45
        return {"scene": scene * self.scene_scale + self.scene_mean}

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
        return chosen(name, {"policy": self.query_policy, "imagine": self.query_imagine})(
            several(batch, draws), generator, steps
        )
