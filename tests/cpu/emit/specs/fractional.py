"""Fractional: p(o',a|o).

spec sha256 fd878d9a3114dbd94f158a01fd2f23c23bb84b096d1efa5e76fddc6e9c8d09c8
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream     type           rate   segments          batch
scene      video 3x16x16  10 Hz  now 1, future 2   [B, 3, 3, 16, 16]
action     action 3       20 Hz  past 2, future 8  [B, 10, 3]
registers  learned 2      -      whole 1           -

trunk  kind  blocks  width  heads  tokens
both   dit   2       32     2x16   registers:2 scene.now:4 scene.future:8 action.past:2
                                   action.future:8

query   answer  steps             sought | given
policy  exact   action 3 scene 3  action.future | scene.now, action.past

68323 parameters

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

from wmdsl_kernels import attention, gated_residual, modulated_norm, rotated_heads


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


def angles_3d(places: list[Tensor], head_dim: int) -> Tensor:
    """Angles [T, K / 2] of places [T, 3]; each axis has a third of them, the first one the rest."""
    places_T3 = torch.cat([part.float() for part in places])
    side = head_dim // 6
    angles = []
    for axis, count in enumerate((head_dim // 2 - 2 * side, side, side)):
        rates = 10000.0 ** (-torch.arange(count) / count)
        angles.append(torch.outer(places_T3[:, axis], rates))
    return torch.cat(angles, dim=1)


def line(count: int) -> Tensor:
    """Places (index, 0, 0) of tokens in a row [T, 3]."""
    return torch.stack([torch.arange(count), torch.zeros(count), torch.zeros(count)], dim=1)


def cells(first: int, frames: int, rows: int, columns: int) -> Tensor:
    """Places (frame, row, column) of the cells of frames [T, 3], counted from frame `first`."""
    sides = torch.arange(first, first + frames), torch.arange(rows), torch.arange(columns)
    return torch.cartesian_prod(*sides)


def moments(first: float, step: float, frames: int, count: int) -> Tensor:
    """Places (time, 0, 0) of so many tokens at each of even times [T, 3], in frames of a video."""
    times = (first + step * torch.arange(frames)).repeat_interleave(count)
    return torch.stack([times, torch.zeros_like(times), torch.zeros_like(times)], dim=1)


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


class Fractional(nn.Module):
    """The model `fractional`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:11)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # trunk both: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:25)
        self.both = nn.ModuleDict(
            dict(
                registers_in=Places(2, 32),
                scene_now_in=nn.Linear(192, 32),
                scene_future_in=nn.Linear(192, 32),
                action_past_in=nn.Linear(3, 32),
                action_future_in=nn.Linear(3, 32),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                scene_future_out=Head(32, 192),
                action_future_out=Head(32, 3),
            )
        )
        self.register_buffer(
            "both_angles",
            angles_3d(
                [
                    line(2),
                    cells(0, 1, 2, 2),
                    cells(1, 2, 2, 2),
                    moments(-0.5, 0.25, 2, 1),
                    moments(0, 0.25, 8, 1),
                ],
                16,
            ),
            persistent=False,
        )

    def run_both(self, both: Tensor, code: Runs, angles: Tensor) -> Tensor:
        """The blocks of both (model.wm:25)."""
        for block in self.both.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(both, modulation)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(query, key, value)
            both = block.merge(both, mixed, modulation)
            both = block.feed(both, modulation)
        return self.both.norm(both, code)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 3, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([1, 2], dim=1)
        action = samples(batch, "action", 10, 10, (3,), "model.wm:11")
        action = (action - self.action_mean) / self.action_scale
        action_past, action_future = action.split([2, 8], dim=1)
        like = next(self.parameters())
        size = len(scene_now)
        clean = like.new_zeros(size, 1)

        # foresight: scene.future by flow (model.wm:36)
        scene_future_time = uniform((size, 1), 0, 1, like, generator)
        scene_future_patches = patchify(scene_future, 8, 8)  # model.wm:21
        scene_future_noise = normal(scene_future_patches.shape, like, generator)
        scene_future_noisy = torch.lerp(
            scene_future_patches, scene_future_noise, scene_future_time[..., None]
        )

        # act: action.future by flow (model.wm:45)
        action_future_time = uniform((size, 1), 0, 1, like, generator)
        action_future_noise = normal(action_future.shape, like, generator)
        action_future_noisy = torch.lerp(
            action_future, action_future_noise, action_future_time[..., None]
        )

        # both (model.wm:25)
        scene_now_patches = patchify(scene_now, 8, 8)  # model.wm:21
        both = torch.cat(
            [
                self.both.registers_in(size),
                self.both.scene_now_in(scene_now_patches),
                self.both.scene_future_in(scene_future_noisy),
                self.both.action_past_in(action_past),
                self.both.action_future_in(action_future_noisy),
            ],
            dim=1,
        )
        both_code = Runs(
            self.both.time(torch.cat([clean, scene_future_time, clean, action_future_time], dim=1)),
            (6, 8, 2, 8),
        )
        both_out = self.run_both(both, both_code, self.both_angles)

        # foresight: error (model.wm:36)
        scene_future_out = self.both.scene_future_out(both_out[:, 6:14])
        scene_valid = validity(batch, "scene", size, 3)
        foresight = valid_mean(
            l2(scene_future_out, scene_future_noise - scene_future_patches), scene_valid[:, 1:3]
        )

        # act: error (model.wm:45)
        action_future_out = self.both.action_future_out(both_out[:, 16:24])
        action_valid = validity(batch, "action", size, 10)
        act = valid_mean(
            l2(action_future_out, action_future_noise - action_future), action_valid[:, 2:10]
        )
        return {"loss": foresight + act, "foresight": foresight, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action.future given scene.now, action.past (exact) (model.wm:54).

        scene.future: output ignored
        """
        scene = samples(batch, "scene", 1, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        action = samples(batch, "action", 2, 10, (3,), "model.wm:11")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:45)
        action_future = normal((size, 8, 3), like, generator)
        scene_future = normal((size, 8, 192), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:21
        both_given = torch.cat(
            [self.both.registers_in(size), self.both.scene_now_in(scene_now_patches)], dim=1
        )
        both_action_past = self.both.action_past_in(action)
        for now, then in descending(steps or 3):
            action_future_time = like.new_full((size, 1), now)
            scene_future_time = like.new_full((size, 1), now)
            both = torch.cat(
                [
                    both_given,
                    self.both.scene_future_in(scene_future),
                    both_action_past,
                    self.both.action_future_in(action_future),
                ],
                dim=1,
            )
            both_code = Runs(
                self.both.time(
                    torch.cat([clean, scene_future_time, clean, action_future_time], dim=1)
                ),
                (6, 8, 2, 8),
            )
            both_out = self.run_both(both, both_code, self.both_angles)
            action_future_velocity = self.both.action_future_out(both_out[:, 16:24])  # model.wm:45
            action_future = action_future + (then - now) * action_future_velocity
            scene_future_velocity = self.both.scene_future_out(both_out[:, 6:14])  # model.wm:36
            scene_future = scene_future + (then - now) * scene_future_velocity
        return {"action": action_future * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_passive_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future given scene.now, action.past (exact) (model.wm:3).

        action.future: output ignored
        """
        scene = samples(batch, "scene", 1, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        action = samples(batch, "action", 2, 10, (3,), "model.wm:11")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene)
        clean = like.new_zeros(size, 1)

        # scene.future by flow (model.wm:36)
        scene_future = normal((size, 8, 192), like, generator)
        action_future = normal((size, 8, 3), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:21
        both_given = torch.cat(
            [self.both.registers_in(size), self.both.scene_now_in(scene_now_patches)], dim=1
        )
        both_action_past = self.both.action_past_in(action)
        for now, then in descending(steps or 3):
            scene_future_time = like.new_full((size, 1), now)
            action_future_time = like.new_full((size, 1), now)
            both = torch.cat(
                [
                    both_given,
                    self.both.scene_future_in(scene_future),
                    both_action_past,
                    self.both.action_future_in(action_future),
                ],
                dim=1,
            )
            both_code = Runs(
                self.both.time(
                    torch.cat([clean, scene_future_time, clean, action_future_time], dim=1)
                ),
                (6, 8, 2, 8),
            )
            both_out = self.run_both(both, both_code, self.both_angles)
            scene_future_velocity = self.both.scene_future_out(both_out[:, 6:14])  # model.wm:36
            scene_future = scene_future + (then - now) * scene_future_velocity
            action_future_velocity = self.both.action_future_out(both_out[:, 16:24])  # model.wm:45
            action_future = action_future + (then - now) * action_future_velocity
        scene_future_samples = unpatchify(scene_future, (2, 3, 16, 16), 8, 8)
        return {"scene": ((scene_future_samples + 1) / 2).clamp(0, 1)}

    @torch.no_grad()
    def query_controllable_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future given scene.now, action.past, action.future (exact) (model.wm:3)."""
        scene = samples(batch, "scene", 1, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        action = samples(batch, "action", 10, 10, (3,), "model.wm:11")
        action = (action - self.action_mean) / self.action_scale
        action_past, action_future = action.split([2, 8], dim=1)
        like = next(self.parameters())
        size = len(scene)
        clean = like.new_zeros(size, 1)

        # scene.future by flow (model.wm:36)
        scene_future = normal((size, 8, 192), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:21
        both_given = torch.cat(
            [self.both.registers_in(size), self.both.scene_now_in(scene_now_patches)], dim=1
        )
        both_given_ = torch.cat(
            [self.both.action_past_in(action_past), self.both.action_future_in(action_future)],
            dim=1,
        )
        for now, then in descending(steps or 3):
            scene_future_time = like.new_full((size, 1), now)
            both = torch.cat(
                [both_given, self.both.scene_future_in(scene_future), both_given_], dim=1
            )
            both_code = Runs(
                self.both.time(torch.cat([clean, scene_future_time, clean], dim=1)), (6, 8, 10)
            )
            both_out = self.run_both(both, both_code, self.both_angles)
            scene_future_velocity = self.both.scene_future_out(both_out[:, 6:14])  # model.wm:36
            scene_future = scene_future + (then - now) * scene_future_velocity
        scene_future_samples = unpatchify(scene_future, (2, 3, 16, 16), 8, 8)
        return {"scene": ((scene_future_samples + 1) / 2).clamp(0, 1)}

    @torch.no_grad()
    def query_inverse_dynamics(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action.future given scene.now, action.past, scene.future (exact) (model.wm:3)."""
        scene = samples(batch, "scene", 3, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([1, 2], dim=1)
        action = samples(batch, "action", 2, 10, (3,), "model.wm:11")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene_now)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:45)
        action_future = normal((size, 8, 3), like, generator)
        scene_now_patches = patchify(scene_now, 8, 8)  # model.wm:21
        scene_future_patches = patchify(scene_future, 8, 8)  # model.wm:21
        both_given = torch.cat(
            [
                self.both.registers_in(size),
                self.both.scene_now_in(scene_now_patches),
                self.both.scene_future_in(scene_future_patches),
                self.both.action_past_in(action),
            ],
            dim=1,
        )
        for now, then in descending(steps or 3):
            action_future_time = like.new_full((size, 1), now)
            both = torch.cat([both_given, self.both.action_future_in(action_future)], dim=1)
            both_code = Runs(self.both.time(torch.cat([clean, action_future_time], dim=1)), (16, 8))
            both_out = self.run_both(both, both_code, self.both_angles)
            action_future_velocity = self.both.action_future_out(both_out[:, 16:24])  # model.wm:45
            action_future = action_future + (then - now) * action_future_velocity
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
                "passive_world_model": self.query_passive_world_model,
                "controllable_world_model": self.query_controllable_world_model,
                "inverse_dynamics": self.query_inverse_dynamics,
                "passive": self.query_passive_world_model,
                "controllable": self.query_controllable_world_model,
                "inverse": self.query_inverse_dynamics,
            },
        )(several(batch, draws), generator, steps)
