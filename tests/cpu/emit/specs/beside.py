"""Beside: p(o'|o) p(a|o).

spec sha256 69b5fcacb7c5b5fe50921c5a76be91ce7d8f646d8d17c518dd7ee51b6c0016f4
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments         batch
scene   video 3x16x16  10 Hz  now 1, future 2  [B, 3, 3, 16, 16]
body    proprio 5      10 Hz  past 1, now 1    [B, 2, 5]
slots   learned 4      -      whole 1          -
goal    learned 3      -      whole 1          -
hints   learned 3      -      whole 1          -
action  action 3       20 Hz  future 4         [B, 4, 3]

trunk    kind  blocks  width  heads  tokens
seer     dit   2       32     2x16   scene.future:8 slots:4
thinker  vit   2       24     2x12   scene.now:4 hints:3 goal:3
actor    vit   2       32     2x16   action.future:4

query    answer  steps     sought | given
policy   exact   action 3  action | scene.now
imagine  exact   scene 2   scene.future | scene.now, body.past, body.now

129547 parameters

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

from wmdsl_kernels import Schedule, attention, gated_residual, modulated_norm, rotated_heads


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


def angles_1d(count: int, head_dim: int) -> Tensor:
    """Angles [T, K / 2] of places 0, 1, 2, ..."""
    rates = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    return torch.outer(torch.arange(count), rates)


def rotated(x_BTHK: Tensor, angles_TK: Tensor) -> Tensor:
    """The pairs (k, k + K / 2) of each head, turned by the angle of the token."""
    return rotated_heads(x_BTHK, angles_TK.cos(), angles_TK.sin())


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


def patchify(x_BFCHW: Tensor, height: int, width: int) -> Tensor:
    """Frames -> tokens [B, F * rows * columns, C * height * width]."""
    x = x_BFCHW.unflatten(4, (-1, width)).unflatten(3, (-1, height))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


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


def sinusoids(time_BR: Tensor) -> Tensor:
    """Times in 0 (clean) to 1 (noise) as 256 sinusoids [B, R, 256]."""
    place = torch.arange(128, dtype=time_BR.dtype, device=time_BR.device)
    angles = time_BR[..., None] * (1000 * torch.exp(-math.log(10000) * place / 128))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


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


def ends_from_x0(x: Tensor, clean: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """(clean, noise) that predicted data imply."""
    alpha, sigma = levels(time)
    return clean, (x - alpha * clean) / sigma


def unpatchify(x_BTC: Tensor, shape: tuple[int, int, int, int], height: int, width: int) -> Tensor:
    """Tokens -> frames [B, F, C, H, W] of `shape` (F, C, H, W)."""
    frames, channels, rows, columns = shape
    x = x_BTC.unflatten(1, (frames, rows // height, columns // width))
    x = x.unflatten(-1, (channels, height, width))
    return x.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4)


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


TRAIN_ACTOR = Schedule.from_ranges(
    12, 12, [(0, 1, 0, 1), (1, 4, 1, 4), (4, 8, 4, 8), (8, 12, 0, 12)]
)  # model.wm:70


class Beside(nn.Module):
    """The model `beside`."""

    def __init__(self):
        super().__init__()

        # stream body, normalised by zscore (model.wm:10)
        self.register_buffer("body_mean", torch.zeros(5))
        self.register_buffer("body_scale", torch.ones(5))

        # stream action, normalised by zscore (model.wm:28)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # trunk seer: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:37)
        self.seer = nn.ModuleDict(
            dict(
                scene_future_in=Tokens(192, 32, 8),
                slots_in=Places(4, 32),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                scene_future_out=Head(32, 192),
            )
        )

        # trunk thinker: vit, 2 blocks, width 24, 2 heads x 12 (model.wm:48)
        self.thinker = nn.ModuleDict(
            dict(
                scene_now_in=Tokens(192, 24, 4),
                hints_in=Places(3, 24),
                goal_in=Places(3, 24),
                blocks=nn.ModuleList([ViTBlock(24, Heads(24, 2, 2, 12), 96) for _ in range(2)]),
                norm=nn.LayerNorm(24),
            )
        )

        # trunk actor: vit, 2 blocks, width 32, 2 heads x 16 (model.wm:56)
        self.actor = nn.ModuleDict(
            dict(
                action_in=nn.Linear(3, 32),
                blocks=nn.ModuleList([ViTBlock(32, Heads(32, 2, 2, 16), 128) for _ in range(2)]),
                norm=nn.LayerNorm(32),
                action_out=Head(32, 3),
            )
        )
        self.register_buffer("actor_angles", angles_1d(12, 16), persistent=False)

        # condition first by channel (model.wm:64)
        self.first = nn.Linear(192, 32)

        # condition frame by channel (model.wm:65)
        self.frame = nn.Linear(5, 32)

        # condition more by channel (model.wm:66)
        self.more = nn.Linear(24, 32)

        # condition clock by prefix (model.wm:67)
        self.clock = nn.Linear(256, 32)

        # condition plan by prefix_tokens (model.wm:68)
        self.plan_condition = nn.Linear(24, 32)

        # condition look by prefix_tokens (model.wm:69)
        self.look = nn.Linear(192, 32)

    def run_thinker(self, thinker: Tensor) -> tuple[Tensor, ...]:
        """The blocks of thinker (model.wm:48)."""
        for depth, block in enumerate(self.thinker.blocks):
            query, key, value = block.project(thinker)
            mixed = attention(query, key, value)
            thinker = block.merge(thinker, mixed)
            thinker = block.feed(thinker)
            if depth == 0:
                thinker_after_1 = thinker
        return self.thinker.norm(thinker), thinker_after_1

    def run_seer(self, seer: Tensor, code: Runs) -> Tensor:
        """The blocks of seer (model.wm:37)."""
        for block in self.seer.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(seer, modulation)
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
        return self.seer.norm(seer, code)

    def run_actor(self, actor: Tensor, angles: Tensor, schedule: Schedule | None) -> Tensor:
        """The blocks of actor (model.wm:56)."""
        for block in self.actor.blocks:
            query, key, value = block.project(actor)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(query, key, value, schedule)
            actor = block.merge(actor, mixed)
            actor = block.feed(actor)
        return self.actor.norm(actor)

    def run_thinker_to_1(self, thinker: Tensor) -> Tensor:
        """The blocks of thinker (model.wm:48)."""
        for depth, block in enumerate(self.thinker.blocks[:1]):
            query, key, value = block.project(thinker)
            mixed = attention(query, key, value)
            thinker = block.merge(thinker, mixed)
            thinker = block.feed(thinker)
            if depth == 0:
                thinker_after_1 = thinker
        return thinker_after_1

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 3, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([1, 2], dim=1)
        body = samples(batch, "body", 2, 2, (5,), "model.wm:10")
        body = (body - self.body_mean) / self.body_scale
        body_past, body_now = body.split([1, 1], dim=1)
        action = samples(batch, "action", 4, 4, (3,), "model.wm:28")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene_now)
        clean = like.new_zeros(size, 1)

        # foresight: scene.future by flow (model.wm:73)
        scene_future_time = uniform((size, 1), 0, 1, like, generator)
        scene_future_patches = patchify(scene_future, 8, 8)  # model.wm:33
        scene_future_noise = normal(scene_future_patches.shape, like, generator)
        scene_future_noisy = torch.lerp(
            scene_future_patches, scene_future_noise, scene_future_time[..., None]
        )

        # act: action.future by diffusion (model.wm:82)
        action_time = uniform((size, 1), 0, 1, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = noised(action, action_noise, action_time[..., None])

        # thinker (model.wm:48)
        scene_now_patches = patchify(scene_now, 8, 8)  # model.wm:33
        thinker = torch.cat(
            [
                self.thinker.scene_now_in(scene_now_patches),
                self.thinker.hints_in(size),
                self.thinker.goal_in(size),
            ],
            dim=1,
        )
        thinker_out, thinker_after_1 = self.run_thinker(thinker)

        # seer (model.wm:37)
        seer = torch.cat(
            [
                self.seer.scene_future_in(scene_future_noisy)
                + self.first(scene_now_patches.repeat(1, 2, 1))
                + self.frame(torch.cat([body_past, body_now], dim=1).repeat_interleave(4, dim=1)),
                self.seer.slots_in(size) + self.more(thinker_after_1[:, 0:4]),
            ],
            dim=1,
        )
        seer_code = Runs(self.seer.time(clean), (12,))
        seer_out = self.run_seer(seer, seer_code)

        # actor (model.wm:56)
        actor = torch.cat(
            [
                self.clock(sinusoids(action_time).mean(dim=1))[:, None],
                self.plan_condition(thinker_out[:, 7:10]),
                self.look(scene_now_patches),
                self.actor.action_in(action_noisy),
            ],
            dim=1,
        )
        actor_out = self.run_actor(actor, self.actor_angles, TRAIN_ACTOR)

        # foresight: error (model.wm:73)
        scene_future_out = self.seer.scene_future_out(seer_out[:, 0:8])
        scene_valid = validity(batch, "scene", size, 3)
        foresight = valid_mean(
            l2(scene_future_out, scene_future_noise - scene_future_patches), scene_valid[:, 1:3]
        )

        # act: error (model.wm:82)
        action_out = self.actor.action_out(actor_out[:, 8:12])
        action_valid = validity(batch, "action", size, 4)
        act = valid_mean(l2(action_out, action), action_valid)
        return {"loss": foresight + act, "foresight": foresight, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene.now (exact) (model.wm:91).

        scene.future: deleted exactly
        slots: deleted exactly
        """
        scene = samples(batch, "scene", 1, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        like = next(self.parameters())
        size = len(scene)

        # action.future by diffusion (model.wm:82)
        action = normal((size, 4, 3), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:33
        thinker = torch.cat(
            [
                self.thinker.scene_now_in(scene_now_patches),
                self.thinker.hints_in(size),
                self.thinker.goal_in(size),
            ],
            dim=1,
        )
        thinker_out, thinker_after_1 = self.run_thinker(thinker)
        actor_given = torch.cat(
            [self.plan_condition(thinker_out[:, 7:10]), self.look(scene_now_patches)], dim=1
        )
        for now, then in descending(steps or 3):
            action_time = like.new_full((size, 1), now)
            actor = torch.cat(
                [
                    self.clock(sinusoids(action_time).mean(dim=1))[:, None],
                    actor_given,
                    self.actor.action_in(action),
                ],
                dim=1,
            )
            actor_out = self.run_actor(actor, self.actor_angles, TRAIN_ACTOR)
            action_ends = ends_from_x0(
                action, self.actor.action_out(actor_out[:, 8:12]), like.new_full((1, 1, 1), now)
            )  # model.wm:82
            action = noised(action_ends[0], action_ends[1], like.new_full((1, 1, 1), then))
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_imagine(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future given scene.now, body.past, body.now (exact) (model.wm:95).

        clock: deleted exactly
        plan: deleted exactly
        look: deleted exactly
        action.future: deleted exactly
        thinker layer 1: head skipped
        """
        scene = samples(batch, "scene", 1, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        body = samples(batch, "body", 2, 2, (5,), "model.wm:10")
        body = (body - self.body_mean) / self.body_scale
        body_past, body_now = body.split([1, 1], dim=1)
        like = next(self.parameters())
        size = len(scene)
        clean = like.new_zeros(size, 1)

        # scene.future by flow (model.wm:73)
        scene_future = normal((size, 8, 192), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:33
        thinker = torch.cat(
            [
                self.thinker.scene_now_in(scene_now_patches),
                self.thinker.hints_in(size),
                self.thinker.goal_in(size),
            ],
            dim=1,
        )
        thinker_after_1 = self.run_thinker_to_1(thinker)
        first = self.first(scene_now_patches.repeat(1, 2, 1))
        frame = self.frame(torch.cat([body_past, body_now], dim=1).repeat_interleave(4, dim=1))
        more = self.more(thinker_after_1[:, 0:4])
        seer_slots = self.seer.slots_in(size) + more
        for now, then in descending(steps or 2):
            seer = torch.cat(
                [self.seer.scene_future_in(scene_future) + first + frame, seer_slots], dim=1
            )
            seer_code = Runs(self.seer.time(clean), (12,))
            seer_out = self.run_seer(seer, seer_code)
            scene_future_velocity = self.seer.scene_future_out(seer_out[:, 0:8])  # model.wm:73
            scene_future = scene_future + (then - now) * scene_future_velocity
        scene_future_samples = unpatchify(scene_future, (2, 3, 16, 16), 8, 8)
        return {"scene": ((scene_future_samples + 1) / 2).clamp(0, 1)}

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
                "imagine": self.query_imagine,
                "passive_world_model": self.query_imagine,
                "passive": self.query_imagine,
            },
        )(several(batch, draws), generator, steps)
