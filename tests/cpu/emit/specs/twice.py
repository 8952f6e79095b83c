"""Twice: p(o'|o) p(a|o,o').

spec sha256 74caebc29dd5821df997ac1f70ef86dc9edebcae9f2680a7bb3e40614446a520
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type         rate   segments         batch
camera  video 3x8x8  10 Hz  now 1, future 2  [B, 3, 3, 8, 8]
action  action 2     10 Hz  future 2         [B, 2, 2]

trunk  kind  blocks  width  heads  tokens
seer   dit   2       32     2x16   camera.now:4 camera.future:8
doer   dit   2       24     2x16   action.future:2

query   answer  steps              sought | given
policy  exact   camera 3 action 3  camera.future, action | camera.now

85498 parameters

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

from wmdsl_kernels import Schedule, attention, gated_residual, modulated_norm


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


def shifted(time: Tensor | float, shift: float) -> Tensor | float:
    """The time moved towards noise by a shift above 1: a number or a tensor."""
    return shift * time / (1 + (shift - 1) * time)


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


def sometimes(
    shape: tuple[int, ...], chance: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """1 with that chance, else 0."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return (draw < chance).to(like.dtype)


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


TRAIN_BOTH_EXPERTS = Schedule.from_ranges(
    26, 26, [(0, 4, 0, 4), (4, 12, 0, 12), (12, 16, 12, 16), (16, 24, 12, 24), (24, 26, 12, 26)]
)  # model.wm:42
POLICY_EXPERTS_GIVEN = Schedule.from_ranges(12, 12, [(0, 4, 0, 4), (4, 12, 0, 12)])  # model.wm:42


class Twice(nn.Module):
    """The model `twice`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:10)
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_scale", torch.ones(2))

        # trunk seer: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:19)
        self.seer = nn.ModuleDict(
            dict(
                camera_now_in=Tokens(48, 32, 4),
                camera_future_in=Tokens(48, 32, 8),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                camera_future_out=Head(32, 48),
            )
        )

        # trunk doer: dit, 2 blocks, width 24, 2 heads x 16 (model.wm:30)
        self.doer = nn.ModuleDict(
            dict(
                action_in=Tokens(2, 24, 2),
                time=TimeCode(24),
                blocks=nn.ModuleList(
                    [DiTBlock(24, Heads(24, 2, 2, 16), AdaLN(24, count=6), 96) for _ in range(2)]
                ),
                norm=ModulatedNorm(24),
                action_out=Head(24, 2),
            )
        )

    def run_experts(
        self,
        seer: Tensor,
        doer: Tensor,
        seer_code: Runs,
        doer_code: Runs,
        schedule: Schedule | None,
    ) -> tuple[Tensor, ...]:
        """The blocks of seer and doer, attending as one sequence (model.wm:41)."""
        for seer_block, doer_block in zip(self.seer.blocks, self.doer.blocks, strict=True):
            seer_modulation = seer_block.modulation(seer_code)
            doer_modulation = doer_block.modulation(doer_code)
            seer_query, seer_key, seer_value = seer_block.project(seer, seer_modulation)
            doer_query, doer_key, doer_value = doer_block.project(doer, doer_modulation)
            mixed = attention(
                torch.cat([seer_query, doer_query], dim=1),
                torch.cat([seer_key, doer_key], dim=1),
                torch.cat([seer_value, doer_value], dim=1),
                schedule,
            )
            seer_mixed, doer_mixed = mixed.split([seer.shape[1], doer.shape[1]], dim=1)
            seer = seer_block.merge(seer, seer_mixed, seer_modulation)
            doer = doer_block.merge(doer, doer_mixed, doer_modulation)
            seer = seer_block.feed(seer, seer_modulation)
            doer = doer_block.feed(doer, doer_modulation)
        return self.seer.norm(seer, seer_code), self.doer.norm(doer, doer_code)

    def remember_experts_seer(
        self, seer: Tensor, told: Told, schedule: Schedule | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of seer that no step changes, block by block (model.wm:41)."""
        memory = []
        for depth, (block, modulation) in enumerate(
            zip(self.seer.blocks, told.blocks, strict=True)
        ):
            query, key, value = block.project(seer, modulation)
            memory.append((key, value))
            if depth == 1:
                break
            mixed = attention(query, key, value, schedule)
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
        return memory

    def step_experts_seer(
        self, seer: Tensor, told: Told, memory: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The blocks of seer, seeing `memory` and themselves (model.wm:41)."""
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

    def step_experts_doer(
        self, doer: Tensor, told: Told, memory: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The blocks of doer, seeing `memory` and themselves (model.wm:41)."""
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

    def loss_both(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        camera = samples(batch, "camera", 3, 3, (3, 8, 8), "model.wm:4")
        camera = 2 * camera - 1
        camera_now, camera_future = camera.split([1, 2], dim=1)
        action = samples(batch, "action", 2, 2, (2,), "model.wm:10")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(camera_now)
        clean = like.new_zeros(size, 1)

        # foresight: camera.future by flow (model.wm:54)
        camera_future_time = shifted(uniform((size, 1), 0, 1, like, generator), 2)
        camera_future_patches = patchify(camera_future, 4, 4)  # model.wm:15
        camera_future_noise = normal(camera_future_patches.shape, like, generator)
        camera_future_noisy = torch.lerp(
            camera_future_patches, camera_future_noise, camera_future_time[..., None]
        )

        # act: action.future by flow (model.wm:63)
        action_time = uniform((size, 1), 0, 1, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = torch.lerp(action, action_noise, action_time[..., None])

        # condition.camera.future: noised again in 0.5 of the samples (model.wm:79)
        again = sometimes((size, 1), 0.5, like, generator)
        condition_camera_future_time = again * shifted(uniform((size, 1), 0, 1, like, generator), 2)
        condition_camera_future_noise = normal(camera_future_patches.shape, like, generator)
        condition_camera_future_noisy = torch.lerp(
            camera_future_patches,
            condition_camera_future_noise,
            condition_camera_future_time[..., None],
        )

        # seer and doer (model.wm:41)
        camera_now_patches = patchify(camera_now, 4, 4)  # model.wm:15
        seer = torch.cat(
            [
                self.seer.camera_now_in(camera_now_patches),
                self.seer.camera_future_in(camera_future_noisy),
                self.seer.camera_now_in(camera_now_patches),
                self.seer.camera_future_in(condition_camera_future_noisy),
            ],
            dim=1,
        )
        doer = self.doer.action_in(action_noisy)
        seer_code = Runs(
            self.seer.time(
                torch.cat([clean, camera_future_time, clean, condition_camera_future_time], dim=1)
            ),
            (4, 8, 4, 8),
        )
        doer_code = Runs(self.doer.time(action_time), (2,))
        seer_out, doer_out = self.run_experts(seer, doer, seer_code, doer_code, TRAIN_BOTH_EXPERTS)

        # foresight: error (model.wm:54)
        camera_future_out = self.seer.camera_future_out(seer_out[:, 4:12])
        camera_valid = validity(batch, "camera", size, 3)
        foresight = valid_mean(
            l2(camera_future_out, camera_future_noise - camera_future_patches), camera_valid[:, 1:3]
        )

        # act: error (model.wm:63)
        action_out = self.doer.action_out(doer_out)
        action_valid = validity(batch, "action", size, 2)
        act = valid_mean(l2(action_out, action_noise - action), action_valid)
        return {"loss": foresight + act, "foresight": foresight, "act": act}

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch in every layout; `loss` is the mean of the layouts by share."""
        both = self.loss_both(batch, generator)  # model.wm:76
        return {"loss": both["loss"], "foresight": both["foresight"], "act": both["act"]}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """camera.future, action given camera.now (exact) (model.wm:72)."""
        camera = samples(batch, "camera", 1, 3, (3, 8, 8), "model.wm:4")
        camera = 2 * camera - 1
        like = next(self.parameters())
        size = len(camera)

        # camera.future by flow (model.wm:54)
        camera_future = normal((size, 8, 48), like, generator)
        camera_now_patches = patchify(camera, 4, 4)  # model.wm:15
        seer_camera_now = self.seer.camera_now_in(camera_now_patches)
        seer_given_told = folded(self.seer, [[0]], (4,))[0]
        memory = self.remember_experts_seer(seer_camera_now, seer_given_told, None)
        path = descending(steps or 3)
        seer_steps = folded(self.seer, [[shifted(now, 2)] for now, then in path], (8,))
        for (now, then), seer_told in zip(path, seer_steps, strict=True):
            foresight_now = shifted(now, 2)
            foresight_then = shifted(then, 2)
            seer = self.seer.camera_future_in(camera_future)
            seer_out = self.step_experts_seer(seer, seer_told, memory)
            camera_future_velocity = self.seer.camera_future_out(seer_out)  # model.wm:54
            camera_future = (
                camera_future + (foresight_then - foresight_now) * camera_future_velocity
            )

        # action.future by flow (model.wm:63)
        action = normal((size, 2, 2), like, generator)
        seer_given = torch.cat(
            [
                self.seer.camera_now_in(camera_now_patches),
                self.seer.camera_future_in(camera_future),
            ],
            dim=1,
        )
        seer_given_told_ = folded(self.seer, [[0]], (12,))[0]
        memory_ = self.remember_experts_seer(seer_given, seer_given_told_, POLICY_EXPERTS_GIVEN)
        path = descending(steps or 3)
        doer_steps = folded(self.doer, [[now] for now, then in path], (2,))
        for (now, then), doer_told in zip(path, doer_steps, strict=True):
            doer = self.doer.action_in(action)
            doer_out = self.step_experts_doer(doer, doer_told, memory_)
            action_velocity = self.doer.action_out(doer_out)  # model.wm:63
            action = action + (then - now) * action_velocity
        camera_future_samples = unpatchify(camera_future, (2, 3, 8, 8), 4, 4)
        return {
            "camera": ((camera_future_samples + 1) / 2).clamp(0, 1),
            "action": action * self.action_scale + self.action_mean,
        }

    @torch.no_grad()
    def query_passive_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """camera.future given camera.now (exact) (model.wm:3).

        action.future: deleted exactly
        """
        camera = samples(batch, "camera", 1, 3, (3, 8, 8), "model.wm:4")
        camera = 2 * camera - 1
        like = next(self.parameters())
        size = len(camera)

        # camera.future by flow (model.wm:54)
        camera_future = normal((size, 8, 48), like, generator)
        camera_now_patches = patchify(camera, 4, 4)  # model.wm:15
        seer_camera_now = self.seer.camera_now_in(camera_now_patches)
        seer_given_told = folded(self.seer, [[0]], (4,))[0]
        memory = self.remember_experts_seer(seer_camera_now, seer_given_told, None)
        path = descending(steps or 3)
        seer_steps = folded(self.seer, [[shifted(now, 2)] for now, then in path], (8,))
        for (now, then), seer_told in zip(path, seer_steps, strict=True):
            foresight_now = shifted(now, 2)
            foresight_then = shifted(then, 2)
            seer = self.seer.camera_future_in(camera_future)
            seer_out = self.step_experts_seer(seer, seer_told, memory)
            camera_future_velocity = self.seer.camera_future_out(seer_out)  # model.wm:54
            camera_future = (
                camera_future + (foresight_then - foresight_now) * camera_future_velocity
            )
        camera_future_samples = unpatchify(camera_future, (2, 3, 8, 8), 4, 4)
        return {"camera": ((camera_future_samples + 1) / 2).clamp(0, 1)}

    @torch.no_grad()
    def query_inverse_dynamics(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given camera.now, camera.future (exact) (model.wm:3)."""
        camera = samples(batch, "camera", 3, 3, (3, 8, 8), "model.wm:4")
        camera = 2 * camera - 1
        camera_now, camera_future = camera.split([1, 2], dim=1)
        like = next(self.parameters())
        size = len(camera_now)

        # action.future by flow (model.wm:63)
        action = normal((size, 2, 2), like, generator)
        camera_now_patches = patchify(camera_now, 4, 4)  # model.wm:15
        camera_future_patches = patchify(camera_future, 4, 4)  # model.wm:15
        seer_given = torch.cat(
            [
                self.seer.camera_now_in(camera_now_patches),
                self.seer.camera_future_in(camera_future_patches),
            ],
            dim=1,
        )
        seer_given_told = folded(self.seer, [[0]], (12,))[0]
        memory = self.remember_experts_seer(seer_given, seer_given_told, POLICY_EXPERTS_GIVEN)
        path = descending(steps or 3)
        doer_steps = folded(self.doer, [[now] for now, then in path], (2,))
        for (now, then), doer_told in zip(path, doer_steps, strict=True):
            doer = self.doer.action_in(action)
            doer_out = self.step_experts_doer(doer, doer_told, memory)
            action_velocity = self.doer.action_out(doer_out)  # model.wm:63
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
                "inverse_dynamics": self.query_inverse_dynamics,
                "passive": self.query_passive_world_model,
                "inverse": self.query_inverse_dynamics,
            },
        )(several(batch, draws), generator, steps)
