"""Change: p(o',body'|o) p(touch'|o) p(a|o,o',touch').

spec sha256 af0319806743e0041ec5f4bcee59d5f014d108678aa43062d98a833a827f6ece
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments          batch
scene   video 3x16x16  10 Hz  now 2, future 2   [B, 4, 3, 16, 16]
body    proprio 5      20 Hz  now 1, future 2   [B, 3, 5]
touch   vector 2       20 Hz  now 2, future 3   [B, 5, 2]
action  action 3       20 Hz  past 2, future 4  [B, 6, 3]

trunk   kind  blocks  width  heads  tokens
seer    dit   1       32     2x16   scene.now:8 body.now:1 scene.future:8 body.future:2
feeler  vit   1       16     1x16   touch.now:2 touch.future:3
doer    dit   1       16     1x16   scene.future:8 touch.future:3 action.past:2 action.future:4

query    answer  steps                            sought | given
policy   exact   scene 3 body 3 touch 1 action 3  action.future | scene.now, body.now,
                                                  touch.now, action.past
imagine  exact   scene 3 body 3                   scene.future, body.future | scene.now,
                                                  body.now

66986 parameters

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


def beta(shape: Shape, a: float, b: float, like: Tensor, generator: Generator | None) -> Tensor:
    """0.001 + 0.999 Beta(a, b); more weight near pure noise for a > b."""
    shapes = torch.tensor([a, b], dtype=like.dtype, device=like.device).expand(*shape, 2)
    gamma = torch._standard_gamma(shapes, generator)
    return 0.001 + 0.999 * gamma[..., 0] / gamma.sum(dim=-1)


def patchify(x_BFCHW: Tensor, height: int, width: int) -> Tensor:
    """Frames -> tokens [B, F * rows * columns, C * height * width]."""
    x = x_BFCHW.unflatten(4, (-1, width)).unflatten(3, (-1, height))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal noise with the dtype and device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def uniform(
    shape: Shape, low: float, high: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Uniform between `low` and `high`."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return low + (high - low) * draw


def shifted(time: Tensor | float, shift: float) -> Tensor | float:
    """The time moved towards noise by a shift above 1: a number or a tensor."""
    return shift * time / (1 + (shift - 1) * time)


def unpatchify(x_BTC: Tensor, shape: tuple[int, int, int, int], height: int, width: int) -> Tensor:
    """Tokens -> frames [B, F, C, H, W] of `shape` (F, C, H, W)."""
    frames, channels, rows, columns = shape
    x = x_BTC.unflatten(1, (frames, rows // height, columns // width))
    x = x.unflatten(-1, (channels, height, width))
    return x.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4)


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


class Change(nn.Module):
    """The model `change`."""

    def __init__(self):
        super().__init__()

        # stream body, normalised by zscore (model.wm:10)
        self.register_buffer("body_mean", torch.zeros(5))
        self.register_buffer("body_scale", torch.ones(5))

        # stream touch, normalised by zscore (model.wm:16)
        self.register_buffer("touch_mean", torch.zeros(2))
        self.register_buffer("touch_scale", torch.ones(2))

        # stream action, normalised by zscore (model.wm:22)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # trunk seer: dit, 1 blocks, width 32, 2 heads x 16 (model.wm:32)
        self.seer = nn.ModuleDict(
            dict(
                scene_now_in=Tokens(192, 32, 8),
                body_now_in=Tokens(5, 32, 1),
                scene_future_in=Tokens(192, 32, 8),
                body_future_in=Tokens(5, 32, 2),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(1)]
                ),
                norm=ModulatedNorm(32),
                scene_future_out=Head(32, 192),
                body_future_out=Head(32, 5),
            )
        )

        # trunk feeler: vit, 1 blocks, width 16, 1 heads x 16 (model.wm:43)
        self.feeler = nn.ModuleDict(
            dict(
                touch_now_in=Tokens(2, 16, 2),
                touch_future_in=Places(3, 16),
                blocks=nn.ModuleList([ViTBlock(16, Heads(16, 1, 1, 16), 64) for _ in range(1)]),
                norm=nn.LayerNorm(16),
                touch_future_out=Head(16, 2),
            )
        )

        # trunk doer: dit, 1 blocks, width 16, 1 heads x 16 (model.wm:51)
        self.doer = nn.ModuleDict(
            dict(
                scene_future_in=Tokens(192, 16, 8),
                touch_future_in=Tokens(2, 16, 3),
                action_past_in=Tokens(3, 16, 2),
                action_future_in=Tokens(3, 16, 4),
                time=TimeCode(16),
                blocks=nn.ModuleList(
                    [DiTBlock(16, Heads(16, 1, 1, 16), AdaLN(16, count=6), 64) for _ in range(1)]
                ),
                norm=ModulatedNorm(16),
                action_future_out=Head(16, 3),
            )
        )

    def run_seer(self, seer: Tensor, code: Runs) -> Tensor:
        """The blocks of seer (model.wm:32)."""
        for block in self.seer.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(seer, modulation)
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
        return self.seer.norm(seer, code)

    def run_feeler(self, feeler: Tensor) -> Tensor:
        """The blocks of feeler (model.wm:43)."""
        for block in self.feeler.blocks:
            query, key, value = block.project(feeler)
            mixed = attention(query, key, value)
            feeler = block.merge(feeler, mixed)
            feeler = block.feed(feeler)
        return self.feeler.norm(feeler)

    def run_doer(self, doer: Tensor, code: Runs) -> Tensor:
        """The blocks of doer (model.wm:51)."""
        for block in self.doer.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(doer, modulation)
            mixed = attention(query, key, value)
            doer = block.merge(doer, mixed, modulation)
            doer = block.feed(doer, modulation)
        return self.doer.norm(doer, code)

    def remember_seer(self, seer: Tensor, told: Told) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of seer that no step changes, block by block (model.wm:32)."""
        memory = []
        for depth, (block, modulation) in enumerate(
            zip(self.seer.blocks, told.blocks, strict=True)
        ):
            query, key, value = block.project(seer, modulation)
            memory.append((key, value))
            if depth == 0:
                break
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
        return memory

    def step_seer(self, seer: Tensor, told: Told, memory: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The blocks of seer, seeing `memory` and themselves (model.wm:32)."""
        for block, modulation, (kept_key, kept_value) in zip(
            self.seer.blocks, told.blocks, memory, strict=True
        ):
            query, key, value = block.project(seer, modulation)
            mixed = attention(
                query, torch.cat([kept_key, key], dim=1), torch.cat([kept_value, value], dim=1)
            )
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
        return self.seer.norm.modulate(seer, told.norm)

    def remember_doer(self, doer: Tensor, told: Told) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of doer that no step changes, block by block (model.wm:51)."""
        memory = []
        for depth, (block, modulation) in enumerate(
            zip(self.doer.blocks, told.blocks, strict=True)
        ):
            query, key, value = block.project(doer, modulation)
            memory.append((key, value))
            if depth == 0:
                break
            mixed = attention(query, key, value)
            doer = block.merge(doer, mixed, modulation)
            doer = block.feed(doer, modulation)
        return memory

    def step_doer(self, doer: Tensor, told: Told, memory: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The blocks of doer, seeing `memory` and themselves (model.wm:51)."""
        for block, modulation, (kept_key, kept_value) in zip(
            self.doer.blocks, told.blocks, memory, strict=True
        ):
            query, key, value = block.project(doer, modulation)
            mixed = attention(
                query, torch.cat([kept_key, key], dim=1), torch.cat([kept_value, value], dim=1)
            )
            doer = block.merge(doer, mixed, modulation)
            doer = block.feed(doer, modulation)
        return self.doer.norm.modulate(doer, told.norm)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 4, 4, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([2, 2], dim=1)
        body = samples(batch, "body", 3, 3, (5,), "model.wm:10")
        body = (body - self.body_mean) / self.body_scale
        body_now, body_future = body.split([1, 2], dim=1)
        touch = samples(batch, "touch", 5, 5, (2,), "model.wm:16")
        touch = (touch - self.touch_mean) / self.touch_scale
        touch_now, touch_future = touch.split([2, 3], dim=1)
        action = samples(batch, "action", 6, 6, (3,), "model.wm:22")
        action = (action - self.action_mean) / self.action_scale
        action_past, action_future = action.split([2, 4], dim=1)
        like = next(self.parameters())
        size = len(scene_now)
        clean = like.new_zeros(size, 1)

        # foresee: scene.future by flow (model.wm:76)
        scene_future_time = beta((size, 1), 2, 1, like, generator)
        scene_future_patches = patchify(scene_future, 8, 8)  # model.wm:28
        scene_future_noise = normal(scene_future_patches.shape, like, generator)
        scene_future_noisy = torch.lerp(
            scene_future_patches, scene_future_noise, scene_future_time[..., None]
        )

        # feel: body.future by flow (model.wm:85)
        body_future_time = uniform((size, 1), 0, 1, like, generator)
        body_future_noise = normal(body_future.shape, like, generator)
        body_future_noisy = torch.lerp(body_future, body_future_noise, body_future_time[..., None])

        # brush: touch.future by regression (model.wm:94)

        # act: action.future by flow (model.wm:99)
        action_future_time = shifted(uniform((size * 2, 1), 0, 1, like, generator), 3)
        action_future_drawn = action_future.repeat_interleave(2, dim=0)
        action_future_noise = normal(action_future_drawn.shape, like, generator)
        action_future_noisy = torch.lerp(
            action_future_drawn, action_future_noise, action_future_time[..., None]
        )

        # seer (model.wm:32)
        scene_now_patches = patchify(scene_now, 8, 8)  # model.wm:28
        seer = torch.cat(
            [
                self.seer.scene_now_in(scene_now_patches),
                self.seer.body_now_in(body_now),
                self.seer.scene_future_in(scene_future_noisy),
                self.seer.body_future_in(body_future_noisy),
            ],
            dim=1,
        )
        seer_code = Runs(
            self.seer.time(torch.cat([clean, scene_future_time, body_future_time], dim=1)),
            (9, 8, 2),
        )
        seer_out = self.run_seer(seer, seer_code)

        # feeler (model.wm:43)
        feeler = torch.cat(
            [self.feeler.touch_now_in(touch_now), self.feeler.touch_future_in(size)], dim=1
        )
        feeler_out = self.run_feeler(feeler)

        # doer (model.wm:51)
        scene_future_change = self.seer.scene_future_out(seer_out[:, 9:17]).detach()
        scene_now_1_1_patches = patchify(scene_now[:, 1:2], 8, 8)  # model.wm:28
        scene_future_before = scene_now_1_1_patches.repeat(1, 2, 1)
        scene_future_predicted = scene_future_before + scene_future_change

        # hand dream: scene.future -> doer (model.wm:62)
        scene_future_patches_dream = patchify(
            unpatchify(scene_future_predicted, (2, 3, 16, 16), 8, 8), 8, 8
        )  # model.wm:28
        touch_future_change = self.feeler.touch_future_out(feeler_out[:, 2:5]).detach()
        touch_future_predicted = touch_now[:, 1:2] + touch_future_change

        # hand hunch: touch.future -> doer (model.wm:69)
        touch_future_linear_hunch = touch_future_predicted  # model.wm:10
        doer = torch.cat(
            [
                self.doer.scene_future_in(scene_future_patches_dream).repeat_interleave(2, dim=0),
                self.doer.touch_future_in(touch_future_linear_hunch).repeat_interleave(2, dim=0),
                self.doer.action_past_in(action_past).repeat_interleave(2, dim=0),
                self.doer.action_future_in(action_future_noisy),
            ],
            dim=1,
        )
        doer_code = Runs(
            self.doer.time(torch.cat([like.new_zeros(size * 2, 1), action_future_time], dim=1)),
            (13, 4),
        )
        doer_out = self.run_doer(doer, doer_code)

        # foresee: error (model.wm:76)
        scene_future_out = scene_future_before + self.seer.scene_future_out(seer_out[:, 9:17])
        scene_valid = validity(batch, "scene", size, 4)
        foresee = valid_mean(l2(scene_future_out, scene_future_patches), scene_valid[:, 2:4])

        # feel: error (model.wm:85)
        body_future_out = body_now + self.seer.body_future_out(seer_out[:, 17:19])
        body_valid = validity(batch, "body", size, 3)
        feel = valid_mean(l2(body_future_out, body_future), body_valid[:, 1:3])

        # brush: error (model.wm:94)
        touch_future_out = touch_now[:, 1:2] + self.feeler.touch_future_out(feeler_out[:, 2:5])
        touch_valid = validity(batch, "touch", size, 5)
        brush = valid_mean(l2(touch_future_out, touch_future), touch_valid[:, 2:5])

        # act: error (model.wm:99)
        action_future_before = action_past[:, 1:2].repeat_interleave(2, dim=0)
        action_future_out = action_future_before + self.doer.action_future_out(doer_out[:, 13:17])
        action_valid = validity(batch, "action", size, 6)
        act = valid_mean(
            l2(action_future_out, action_future_drawn),
            action_valid[:, 2:6].repeat_interleave(2, dim=0),
        )
        return {
            "loss": foresee + feel + brush + act,
            "foresee": foresee,
            "feel": feel,
            "brush": brush,
            "act": act,
        }

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action.future given scene.now, body.now, touch.now, action.past (exact) (model.wm:108).

        scene.future: not optional
        body.future: output ignored
        touch.future: not optional
        """
        scene = samples(batch, "scene", 2, 4, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        body = samples(batch, "body", 1, 3, (5,), "model.wm:10")
        body = (body - self.body_mean) / self.body_scale
        touch = samples(batch, "touch", 2, 5, (2,), "model.wm:16")
        touch = (touch - self.touch_mean) / self.touch_scale
        action = samples(batch, "action", 2, 6, (3,), "model.wm:22")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene)

        # scene.future by flow (model.wm:76)
        scene_now_1_1_patches = patchify(scene[:, 1:2], 8, 8)  # model.wm:28
        scene_future_before = scene_now_1_1_patches.repeat(1, 2, 1)
        scene_future = normal((size, 8, 192), like, generator)
        body_future = normal((size, 2, 5), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:28
        seer_given = torch.cat(
            [self.seer.scene_now_in(scene_now_patches), self.seer.body_now_in(body)], dim=1
        )
        seer_given_told = folded(self.seer, [[0]], (9,))[0]
        memory = self.remember_seer(seer_given, seer_given_told)
        path = descending(steps or 3)
        seer_steps = folded(self.seer, [[now] for now, then in path], (10,))
        for (now, then), seer_told in zip(path, seer_steps, strict=True):
            seer = torch.cat(
                [self.seer.scene_future_in(scene_future), self.seer.body_future_in(body_future)],
                dim=1,
            )
            seer_out = self.step_seer(seer, seer_told, memory)
            scene_future = torch.lerp(
                (scene_future_before + self.seer.scene_future_out(seer_out[:, 0:8])).to(
                    scene_future
                ),
                scene_future,
                then / now,
            )  # model.wm:76
            body_future = torch.lerp(
                (body + self.seer.body_future_out(seer_out[:, 8:10])).to(body_future),
                body_future,
                then / now,
            )  # model.wm:85

        # touch.future by regression (model.wm:94)
        feeler = torch.cat(
            [self.feeler.touch_now_in(touch), self.feeler.touch_future_in(size)], dim=1
        )
        feeler_out = self.run_feeler(feeler)
        touch_future = touch[:, 1:2] + self.feeler.touch_future_out(feeler_out[:, 2:5])

        # action.future by flow (model.wm:99)
        scene_future_samples = unpatchify(scene_future, (2, 3, 16, 16), 8, 8)

        # hand dream: scene.future -> doer (model.wm:62)
        scene_future_patches_dream = patchify(scene_future_samples, 8, 8)  # model.wm:28

        # hand hunch: touch.future -> doer (model.wm:69)
        touch_future_linear_hunch = touch_future  # model.wm:10
        action_future = normal((size, 4, 3), like, generator)
        doer_given = torch.cat(
            [
                self.doer.scene_future_in(scene_future_patches_dream),
                self.doer.touch_future_in(touch_future_linear_hunch),
                self.doer.action_past_in(action),
            ],
            dim=1,
        )
        doer_given_told = folded(self.doer, [[0]], (13,))[0]
        memory_ = self.remember_doer(doer_given, doer_given_told)
        path = descending(steps or 3)
        doer_steps = folded(self.doer, [[shifted(now, 3)] for now, then in path], (4,))
        for (now, then), doer_told in zip(path, doer_steps, strict=True):
            act_now = shifted(now, 3)
            act_then = shifted(then, 3)
            doer = self.doer.action_future_in(action_future)
            doer_out = self.step_doer(doer, doer_told, memory_)
            action_future = torch.lerp(
                (action[:, 1:2] + self.doer.action_future_out(doer_out)).to(action_future),
                action_future,
                act_then / act_now,
            )  # model.wm:99
        return {"action": action_future * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_imagine(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future, body.future given scene.now, body.now (exact) (model.wm:112).

        touch.now: deleted exactly
        touch.future: deleted exactly
        action.past: deleted exactly
        action.future: deleted exactly
        """
        scene = samples(batch, "scene", 2, 4, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        body = samples(batch, "body", 1, 3, (5,), "model.wm:10")
        body = (body - self.body_mean) / self.body_scale
        like = next(self.parameters())
        size = len(scene)

        # scene.future and body.future by flow (model.wm:76)
        scene_now_1_1_patches = patchify(scene[:, 1:2], 8, 8)  # model.wm:28
        scene_future_before = scene_now_1_1_patches.repeat(1, 2, 1)
        scene_future = normal((size, 8, 192), like, generator)
        body_future = normal((size, 2, 5), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:28
        seer_given = torch.cat(
            [self.seer.scene_now_in(scene_now_patches), self.seer.body_now_in(body)], dim=1
        )
        seer_given_told = folded(self.seer, [[0]], (9,))[0]
        memory = self.remember_seer(seer_given, seer_given_told)
        path = descending(steps or 3)
        seer_steps = folded(self.seer, [[now] for now, then in path], (10,))
        for (now, then), seer_told in zip(path, seer_steps, strict=True):
            seer = torch.cat(
                [self.seer.scene_future_in(scene_future), self.seer.body_future_in(body_future)],
                dim=1,
            )
            seer_out = self.step_seer(seer, seer_told, memory)
            scene_future = torch.lerp(
                (scene_future_before + self.seer.scene_future_out(seer_out[:, 0:8])).to(
                    scene_future
                ),
                scene_future,
                then / now,
            )  # model.wm:76
            body_future = torch.lerp(
                (body + self.seer.body_future_out(seer_out[:, 8:10])).to(body_future),
                body_future,
                then / now,
            )  # model.wm:85
        scene_future_samples = unpatchify(scene_future, (2, 3, 16, 16), 8, 8)
        return {
            "scene": ((scene_future_samples + 1) / 2).clamp(0, 1),
            "body": body_future * self.body_scale + self.body_mean,
        }

    @torch.no_grad()
    def query_passive_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future given scene.now, body.now, touch.now, action.past (exact) (model.wm:3).

        body.future: output ignored
        touch.now: deleted exactly
        touch.future: deleted exactly
        action.past: deleted exactly
        action.future: deleted exactly
        """
        scene = samples(batch, "scene", 2, 4, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        body = samples(batch, "body", 1, 3, (5,), "model.wm:10")
        body = (body - self.body_mean) / self.body_scale
        like = next(self.parameters())
        size = len(scene)

        # scene.future by flow (model.wm:76)
        scene_now_1_1_patches = patchify(scene[:, 1:2], 8, 8)  # model.wm:28
        scene_future_before = scene_now_1_1_patches.repeat(1, 2, 1)
        scene_future = normal((size, 8, 192), like, generator)
        body_future = normal((size, 2, 5), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:28
        seer_given = torch.cat(
            [self.seer.scene_now_in(scene_now_patches), self.seer.body_now_in(body)], dim=1
        )
        seer_given_told = folded(self.seer, [[0]], (9,))[0]
        memory = self.remember_seer(seer_given, seer_given_told)
        path = descending(steps or 3)
        seer_steps = folded(self.seer, [[now] for now, then in path], (10,))
        for (now, then), seer_told in zip(path, seer_steps, strict=True):
            seer = torch.cat(
                [self.seer.scene_future_in(scene_future), self.seer.body_future_in(body_future)],
                dim=1,
            )
            seer_out = self.step_seer(seer, seer_told, memory)
            scene_future = torch.lerp(
                (scene_future_before + self.seer.scene_future_out(seer_out[:, 0:8])).to(
                    scene_future
                ),
                scene_future,
                then / now,
            )  # model.wm:76
            body_future = torch.lerp(
                (body + self.seer.body_future_out(seer_out[:, 8:10])).to(body_future),
                body_future,
                then / now,
            )  # model.wm:85
        scene_future_samples = unpatchify(scene_future, (2, 3, 16, 16), 8, 8)
        return {"scene": ((scene_future_samples + 1) / 2).clamp(0, 1)}

    @torch.no_grad()
    def query_inverse_dynamics(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action.future given scene.now, body.now, touch.now, action.past, scene.future
        (approximate) (model.wm:3).

        scene.now: deleted exactly
        body.now: deleted exactly
        body.future: deleted exactly
        touch.future: not optional
        """
        scene = samples(batch, "scene", 4, 4, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([2, 2], dim=1)
        touch = samples(batch, "touch", 2, 5, (2,), "model.wm:16")
        touch = (touch - self.touch_mean) / self.touch_scale
        action = samples(batch, "action", 2, 6, (3,), "model.wm:22")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene_now)

        # touch.future by regression (model.wm:94)
        feeler = torch.cat(
            [self.feeler.touch_now_in(touch), self.feeler.touch_future_in(size)], dim=1
        )
        feeler_out = self.run_feeler(feeler)
        touch_future = touch[:, 1:2] + self.feeler.touch_future_out(feeler_out[:, 2:5])

        # action.future by flow (model.wm:99)

        # hand dream: scene.future -> doer (model.wm:62)
        scene_future_patches_dream = patchify(scene_future, 8, 8)  # model.wm:28

        # hand hunch: touch.future -> doer (model.wm:69)
        touch_future_linear_hunch = touch_future  # model.wm:10
        action_future = normal((size, 4, 3), like, generator)
        doer_given = torch.cat(
            [
                self.doer.scene_future_in(scene_future_patches_dream),
                self.doer.touch_future_in(touch_future_linear_hunch),
                self.doer.action_past_in(action),
            ],
            dim=1,
        )
        doer_given_told = folded(self.doer, [[0]], (13,))[0]
        memory = self.remember_doer(doer_given, doer_given_told)
        path = descending(steps or 3)
        doer_steps = folded(self.doer, [[shifted(now, 3)] for now, then in path], (4,))
        for (now, then), doer_told in zip(path, doer_steps, strict=True):
            act_now = shifted(now, 3)
            act_then = shifted(then, 3)
            doer = self.doer.action_future_in(action_future)
            doer_out = self.step_doer(doer, doer_told, memory)
            action_future = torch.lerp(
                (action[:, 1:2] + self.doer.action_future_out(doer_out)).to(action_future),
                action_future,
                act_then / act_now,
            )  # model.wm:99
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
        return chosen(
            name,
            {
                "policy": self.query_policy,
                "imagine": self.query_imagine,
                "passive_world_model": self.query_passive_world_model,
                "inverse_dynamics": self.query_inverse_dynamics,
                "passive": self.query_passive_world_model,
                "inverse": self.query_inverse_dynamics,
            },
        )(several(batch, draws), generator, steps)
