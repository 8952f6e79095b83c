"""Views: p(o',a|o).

spec sha256 f7f503c82e9d86a42ee65ae900bf66b3e6313edd628be82d03a909bf737ca322
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments         batch
canvas  video 3x24x16  10 Hz  now 1, future 1  [B, 2, 3, 24, 16]
pair    video 3x16x16  10 Hz  now 2            [B, 2, 3, 16, 16]
stack   video 3x16x16  10 Hz  now 1            [B, 1, 3, 16, 16]
action  action 3       10 Hz  future 2         [B, 2, 3]

trunk   kind  blocks  width  heads  tokens
policy  dit   2       32     2x16   canvas.now:6 pair.now:64 canvas.future:6 action.future:2

query   answer  steps              sought | given
policy  exact   action 3 canvas 3  action, canvas.future | canvas.now, pair, stack

72983 parameters

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


def patchify(x_BFCHW: Tensor, height: int, width: int) -> Tensor:
    """Frames -> tokens [B, F * rows * columns, C * height * width]."""
    x = x_BFCHW.unflatten(4, (-1, width)).unflatten(3, (-1, height))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal noise with the dtype and device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def views_as_tokens(x: Tensor, views: int, frames: int) -> Tensor:
    """Features of single views [B * V, F * T, C] -> [B, F * V * T, C], a frame view by view."""
    x_BVFTC = x.unflatten(0, (-1, views)).unflatten(2, (frames, -1))
    return x_BVFTC.transpose(1, 2).flatten(1, 3)


def each_view(x_BFVCHW: Tensor) -> Tensor:
    """Clips of single views [B * V, F, C, H, W]."""
    return x_BFVCHW.transpose(1, 2).flatten(0, 1)


def views_as_channels(x: Tensor, views: int, frames: int) -> Tensor:
    """Features of single views [B * V, F * T, C] -> [B, F * T, V * C], side by side."""
    return x.unflatten(0, (-1, views)).transpose(1, 2).flatten(2)


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


class Views(nn.Module):
    """The model `views`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:26)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # codec eyes: conv (model.wm:35)
        self.eyes = ConvGrid(3, (8, 12), (2, 2))

        # trunk policy: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:48)
        self.policy = nn.ModuleDict(
            dict(
                canvas_now_in=Tokens(192, 32, 6),
                pair_in=Tokens(12, 32, 64),
                canvas_future_in=Tokens(192, 32, 6),
                action_in=Tokens(3, 32, 2),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                canvas_future_out=Head(32, 192),
                action_out=Head(32, 3),
            )
        )

        # condition look by adaln (model.wm:59)
        self.look = nn.Linear(24, 32)

    def run_policy(self, policy: Tensor, code: Runs) -> Tensor:
        """The blocks of policy (model.wm:48)."""
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
        canvas = samples(batch, "canvas", 2, 2, (3, 24, 16), "model.wm:4")
        canvas = 2 * canvas - 1
        canvas_now, canvas_future = canvas.split([1, 1], dim=1)
        pair = samples(batch, "pair", 2, 2, (2, 3, 16, 16), "model.wm:12")
        pair = 2 * pair - 1
        stack = samples(batch, "stack", 1, 1, (2, 3, 16, 16), "model.wm:19")
        stack = 2 * stack - 1
        action = samples(batch, "action", 2, 2, (3,), "model.wm:26")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(canvas_now)
        clean = like.new_zeros(size, 1)

        # foresight: canvas.future by flow (model.wm:60)
        canvas_future_time = uniform((size, 1), 0, 1, like, generator)
        canvas_future_patches = patchify(canvas_future, 8, 8)  # model.wm:31
        canvas_future_noise = normal(canvas_future_patches.shape, like, generator)
        canvas_future_noisy = torch.lerp(
            canvas_future_patches, canvas_future_noise, canvas_future_time[..., None]
        )

        # act: action.future by flow (model.wm:69)
        action_time = uniform((size, 1), 0, 1, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = torch.lerp(action, action_noise, action_time[..., None])

        # policy (model.wm:48)
        canvas_now_patches = patchify(canvas_now, 8, 8)  # model.wm:31
        pair_eyes = views_as_tokens(self.eyes(each_view(pair)), 2, 2)  # model.wm:35
        policy = torch.cat(
            [
                self.policy.canvas_now_in(canvas_now_patches),
                self.policy.pair_in(pair_eyes),
                self.policy.canvas_future_in(canvas_future_noisy),
                self.policy.action_in(action_noisy),
            ],
            dim=1,
        )
        stack_eyes = views_as_channels(self.eyes(each_view(stack)), 2, 1)  # model.wm:35
        stack_glance = stack_eyes.unflatten(1, (1, -1)).mean(dim=2)  # model.wm:43
        policy_code = Runs(
            self.policy.time(torch.cat([clean, canvas_future_time, action_time], dim=1))
            + self.look(stack_glance.mean(dim=1))[:, None],
            (70, 6, 2),
        )
        policy_out = self.run_policy(policy, policy_code)

        # foresight: error (model.wm:60)
        canvas_future_out = self.policy.canvas_future_out(policy_out[:, 70:76])
        canvas_valid = validity(batch, "canvas", size, 2)
        foresight = valid_mean(
            l2(canvas_future_out, canvas_future_noise - canvas_future_patches), canvas_valid[:, 1:2]
        )

        # act: error (model.wm:69)
        action_out = self.policy.action_out(policy_out[:, 76:78])
        action_valid = validity(batch, "action", size, 2)
        act = valid_mean(l2(action_out, action_noise - action), action_valid)
        return {"loss": foresight + act, "foresight": foresight, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action, canvas.future given canvas.now, pair, stack (exact) (model.wm:78)."""
        canvas = samples(batch, "canvas", 1, 2, (3, 24, 16), "model.wm:4")
        canvas = 2 * canvas - 1
        pair = samples(batch, "pair", 2, 2, (2, 3, 16, 16), "model.wm:12")
        pair = 2 * pair - 1
        stack = samples(batch, "stack", 1, 1, (2, 3, 16, 16), "model.wm:19")
        stack = 2 * stack - 1
        like = next(self.parameters())
        size = len(canvas)
        clean = like.new_zeros(size, 1)

        # action.future and canvas.future by flow (model.wm:69)
        action = normal((size, 2, 3), like, generator)
        canvas_future = normal((size, 6, 192), like, generator)
        stack_eyes = views_as_channels(self.eyes(each_view(stack)), 2, 1)  # model.wm:35
        stack_glance = stack_eyes.unflatten(1, (1, -1)).mean(dim=2)  # model.wm:43
        canvas_now_patches = patchify(canvas, 8, 8)  # model.wm:31
        pair_eyes = views_as_tokens(self.eyes(each_view(pair)), 2, 2)  # model.wm:35
        policy_given = torch.cat(
            [self.policy.canvas_now_in(canvas_now_patches), self.policy.pair_in(pair_eyes)], dim=1
        )
        for now, then in descending(steps or 3):
            action_time = like.new_full((size, 1), now)
            canvas_future_time = like.new_full((size, 1), now)
            policy = torch.cat(
                [
                    policy_given,
                    self.policy.canvas_future_in(canvas_future),
                    self.policy.action_in(action),
                ],
                dim=1,
            )
            policy_code = Runs(
                self.policy.time(torch.cat([clean, canvas_future_time, action_time], dim=1))
                + self.look(stack_glance.mean(dim=1))[:, None],
                (70, 6, 2),
            )
            policy_out = self.run_policy(policy, policy_code)
            action_velocity = self.policy.action_out(policy_out[:, 76:78])  # model.wm:69
            action = action + (then - now) * action_velocity
            canvas_future_velocity = self.policy.canvas_future_out(
                policy_out[:, 70:76]
            )  # model.wm:60
            canvas_future = canvas_future + (then - now) * canvas_future_velocity
        canvas_future_samples = unpatchify(canvas_future, (1, 3, 24, 16), 8, 8)
        return {
            "action": action * self.action_scale + self.action_mean,
            "canvas": ((canvas_future_samples + 1) / 2).clamp(0, 1),
        }

    @torch.no_grad()
    def query_passive_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """canvas.future given canvas.now, pair, stack (exact) (model.wm:3).

        action.future: output ignored
        """
        canvas = samples(batch, "canvas", 1, 2, (3, 24, 16), "model.wm:4")
        canvas = 2 * canvas - 1
        pair = samples(batch, "pair", 2, 2, (2, 3, 16, 16), "model.wm:12")
        pair = 2 * pair - 1
        stack = samples(batch, "stack", 1, 1, (2, 3, 16, 16), "model.wm:19")
        stack = 2 * stack - 1
        like = next(self.parameters())
        size = len(canvas)
        clean = like.new_zeros(size, 1)

        # canvas.future by flow (model.wm:60)
        canvas_future = normal((size, 6, 192), like, generator)
        action = normal((size, 2, 3), like, generator)
        stack_eyes = views_as_channels(self.eyes(each_view(stack)), 2, 1)  # model.wm:35
        stack_glance = stack_eyes.unflatten(1, (1, -1)).mean(dim=2)  # model.wm:43
        canvas_now_patches = patchify(canvas, 8, 8)  # model.wm:31
        pair_eyes = views_as_tokens(self.eyes(each_view(pair)), 2, 2)  # model.wm:35
        policy_given = torch.cat(
            [self.policy.canvas_now_in(canvas_now_patches), self.policy.pair_in(pair_eyes)], dim=1
        )
        for now, then in descending(steps or 3):
            canvas_future_time = like.new_full((size, 1), now)
            action_time = like.new_full((size, 1), now)
            policy = torch.cat(
                [
                    policy_given,
                    self.policy.canvas_future_in(canvas_future),
                    self.policy.action_in(action),
                ],
                dim=1,
            )
            policy_code = Runs(
                self.policy.time(torch.cat([clean, canvas_future_time, action_time], dim=1))
                + self.look(stack_glance.mean(dim=1))[:, None],
                (70, 6, 2),
            )
            policy_out = self.run_policy(policy, policy_code)
            canvas_future_velocity = self.policy.canvas_future_out(
                policy_out[:, 70:76]
            )  # model.wm:60
            canvas_future = canvas_future + (then - now) * canvas_future_velocity
            action_velocity = self.policy.action_out(policy_out[:, 76:78])  # model.wm:69
            action = action + (then - now) * action_velocity
        canvas_future_samples = unpatchify(canvas_future, (1, 3, 24, 16), 8, 8)
        return {"canvas": ((canvas_future_samples + 1) / 2).clamp(0, 1)}

    @torch.no_grad()
    def query_controllable_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """canvas.future given canvas.now, pair, stack, action (exact) (model.wm:3)."""
        canvas = samples(batch, "canvas", 1, 2, (3, 24, 16), "model.wm:4")
        canvas = 2 * canvas - 1
        pair = samples(batch, "pair", 2, 2, (2, 3, 16, 16), "model.wm:12")
        pair = 2 * pair - 1
        stack = samples(batch, "stack", 1, 1, (2, 3, 16, 16), "model.wm:19")
        stack = 2 * stack - 1
        action = samples(batch, "action", 2, 2, (3,), "model.wm:26")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(canvas)
        clean = like.new_zeros(size, 1)

        # canvas.future by flow (model.wm:60)
        canvas_future = normal((size, 6, 192), like, generator)
        stack_eyes = views_as_channels(self.eyes(each_view(stack)), 2, 1)  # model.wm:35
        stack_glance = stack_eyes.unflatten(1, (1, -1)).mean(dim=2)  # model.wm:43
        canvas_now_patches = patchify(canvas, 8, 8)  # model.wm:31
        pair_eyes = views_as_tokens(self.eyes(each_view(pair)), 2, 2)  # model.wm:35
        policy_given = torch.cat(
            [self.policy.canvas_now_in(canvas_now_patches), self.policy.pair_in(pair_eyes)], dim=1
        )
        policy_action_future = self.policy.action_in(action)
        for now, then in descending(steps or 3):
            canvas_future_time = like.new_full((size, 1), now)
            policy = torch.cat(
                [policy_given, self.policy.canvas_future_in(canvas_future), policy_action_future],
                dim=1,
            )
            policy_code = Runs(
                self.policy.time(torch.cat([clean, canvas_future_time, clean], dim=1))
                + self.look(stack_glance.mean(dim=1))[:, None],
                (70, 6, 2),
            )
            policy_out = self.run_policy(policy, policy_code)
            canvas_future_velocity = self.policy.canvas_future_out(
                policy_out[:, 70:76]
            )  # model.wm:60
            canvas_future = canvas_future + (then - now) * canvas_future_velocity
        canvas_future_samples = unpatchify(canvas_future, (1, 3, 24, 16), 8, 8)
        return {"canvas": ((canvas_future_samples + 1) / 2).clamp(0, 1)}

    @torch.no_grad()
    def query_inverse_dynamics(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given canvas.now, pair, stack, canvas.future (exact) (model.wm:3)."""
        canvas = samples(batch, "canvas", 2, 2, (3, 24, 16), "model.wm:4")
        canvas = 2 * canvas - 1
        canvas_now, canvas_future = canvas.split([1, 1], dim=1)
        pair = samples(batch, "pair", 2, 2, (2, 3, 16, 16), "model.wm:12")
        pair = 2 * pair - 1
        stack = samples(batch, "stack", 1, 1, (2, 3, 16, 16), "model.wm:19")
        stack = 2 * stack - 1
        like = next(self.parameters())
        size = len(canvas_now)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:69)
        action = normal((size, 2, 3), like, generator)
        stack_eyes = views_as_channels(self.eyes(each_view(stack)), 2, 1)  # model.wm:35
        stack_glance = stack_eyes.unflatten(1, (1, -1)).mean(dim=2)  # model.wm:43
        canvas_now_patches = patchify(canvas_now, 8, 8)  # model.wm:31
        pair_eyes = views_as_tokens(self.eyes(each_view(pair)), 2, 2)  # model.wm:35
        canvas_future_patches = patchify(canvas_future, 8, 8)  # model.wm:31
        policy_given = torch.cat(
            [
                self.policy.canvas_now_in(canvas_now_patches),
                self.policy.pair_in(pair_eyes),
                self.policy.canvas_future_in(canvas_future_patches),
            ],
            dim=1,
        )
        for now, then in descending(steps or 3):
            action_time = like.new_full((size, 1), now)
            policy = torch.cat([policy_given, self.policy.action_in(action)], dim=1)
            policy_code = Runs(
                self.policy.time(torch.cat([clean, action_time], dim=1))
                + self.look(stack_glance.mean(dim=1))[:, None],
                (76, 2),
            )
            policy_out = self.run_policy(policy, policy_code)
            action_velocity = self.policy.action_out(policy_out[:, 76:78])  # model.wm:69
            action = action + (then - now) * action_velocity
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
