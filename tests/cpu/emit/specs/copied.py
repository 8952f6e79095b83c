"""Copied: p(o'|o) p(a|o,o').

spec sha256 9f823dab8cf6f073e02065e31764e91f8b9e0c5750949c38dbed7f1c4b29b033
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type         rate   segments          batch
camera  video 3x8x8  10 Hz  now 4, future 2   [B, 6, 3, 8, 8]
action  action 2     10 Hz  past 4, future 2  [B, 6, 2]

trunk  kind  blocks  width  heads  tokens
dit    dit   2       32     2x16   camera.now:16 camera.future:8 action.past:4 action.future:2

query   answer  steps              sought | given
policy  exact   camera 3 action 3  camera.future, action.future | camera.now, action.past

54194 parameters

B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim
F frames  N samples  C channels or features  R rows of codes  V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from wmdsl_kernels import Schedule, attention, gated_residual, modulated_norm, rotated_heads


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


def cells(first: int, frames: int, rows: int, columns: int) -> Tensor:
    """Places (frame, row, column) of the cells of frames [T, 3], counted from frame `first`."""
    sides = torch.arange(first, first + frames), torch.arange(rows), torch.arange(columns)
    return torch.cartesian_prod(*sides)


def line(count: int) -> Tensor:
    """Places (index, 0, 0) of tokens in a row [T, 3]."""
    return torch.stack([torch.arange(count), torch.zeros(count), torch.zeros(count)], dim=1)


def schedule_of(seen: Tensor, lengths: Sequence[tuple[int, int]]) -> Schedule:
    """The schedule of a mask bool [runs, runs] over runs of tokens.

    `lengths` says the tokens of the runs in order: so many runs of so many tokens each.
    """
    changes = (seen[1:] ^ seen[:-1]).view(torch.uint8).amax(dim=1)  # any() is far slower
    edges = torch.nn.functional.pad(changes, (1, 1), value=1).nonzero()[:, 0]
    turns = torch.nn.functional.pad(seen[edges[:-1]].int(), (1, 1)).diff().nonzero()
    (block, start), stop = turns[::2].T, turns[1::2, 1]
    rows = torch.stack([edges[block], edges[block + 1], start, stop], dim=1)
    tokens = [length for count, length in lengths for _ in range(count)]
    place = [0, *accumulate(tokens)]
    ranges = [(place[a], place[b], place[c], place[d]) for a, b, c, d in rows.tolist()]
    return Schedule.from_ranges(place[-1], place[-1], ranges)


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


def whole_number(low: int, high: int, like: Tensor, generator: Generator | None) -> int:
    """A number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator, device=like.device))


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


POLICY_DIT_GIVEN = Schedule.from_ranges(
    20, 20, [(0, 8, 0, 8), (8, 16, 0, 18), (16, 18, 0, 8), (16, 18, 16, 18), (18, 20, 0, 20)]
)  # model.wm:31
POLICY_DIT_STEP = Schedule.from_ranges(8, 28, [(0, 8, 8, 28)])  # model.wm:31
POLICY_DIT_GIVEN_ = Schedule.from_ranges(
    28,
    28,
    [
        (0, 8, 0, 8),
        (8, 16, 0, 16),
        (8, 16, 24, 26),
        (16, 24, 8, 28),
        (24, 26, 0, 8),
        (24, 26, 24, 26),
        (26, 28, 0, 16),
        (26, 28, 24, 28),
    ],
)  # model.wm:31
POLICY_DIT_STEP_ = Schedule.from_ranges(2, 30, [(0, 2, 8, 24), (0, 2, 26, 30)])  # model.wm:31


class Copied(nn.Module):
    """The model `copied`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:10)
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_scale", torch.ones(2))

        # trunk dit: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:20)
        self.dit = nn.ModuleDict(
            dict(
                camera_now_in=nn.Linear(48, 32),
                camera_future_in=nn.Linear(48, 32),
                action_past_in=nn.Linear(2, 32),
                action_future_in=nn.Linear(2, 32),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                camera_future_out=Head(32, 48),
                action_future_out=Head(32, 2),
            )
        )
        self.register_buffer(
            "dit_angles",
            angles_3d([cells(0, 4, 2, 2), cells(4, 2, 2, 2), line(4), line(2)], 16),
            persistent=False,
        )

    def mask_packed(self, chunk: int, window: int) -> Schedule:
        """Who sees whom in layout packed, for the numbers drawn (model.wm:37)."""
        # the order of the tokens
        camera_now = 2 * (torch.tensor([0, 1, 2, 3]) // chunk)  # model.wm:35
        camera_future = 2 * (torch.tensor([4, 5]) // chunk)  # model.wm:35
        action_past = 2 * (torch.tensor([0, 1, 2, 3]) // chunk) + 1  # model.wm:34
        action_future = 2 * (torch.tensor([4, 5]) // chunk) + 1  # model.wm:34
        order = torch.cat(
            [
                camera_now,
                camera_future,
                action_past,
                action_future,
                camera_now,
                camera_future,
                action_past,
                action_future,
            ],
            dim=0,
        )
        seen = torch.zeros(24, 24, dtype=torch.bool)

        # clean sees clean where k <= q, q - k <= window (model.wm:38)
        q, k = (order[0:12, None], order[None, 0:12])
        seen[0:12, 0:12].logical_or_((k <= q) & (q - k <= window))

        # noisy sees clean where k < q, q - k <= window (model.wm:39)
        q, k = (order[12:24, None], order[None, 0:12])
        seen[12:24, 0:12].logical_or_((k < q) & (q - k <= window))

        # noisy sees noisy where k == q (model.wm:40)
        q, k = (order[12:24, None], order[None, 12:24])
        seen[12:24, 12:24].logical_or_(k == q)
        return schedule_of(seen, ((4, 4), (2, 4), (4, 1), (2, 1), (4, 4), (2, 4), (4, 1), (2, 1)))

    def run_dit(self, dit: Tensor, code: Runs, angles: Tensor, schedule: Schedule | None) -> Tensor:
        """The blocks of dit (model.wm:20)."""
        for block in self.dit.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(dit, modulation)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(query, key, value, schedule)
            dit = block.merge(dit, mixed, modulation)
            dit = block.feed(dit, modulation)
        return self.dit.norm(dit, code)

    def remember_dit(
        self, dit: Tensor, told: Told, angles: Tensor, schedule: Schedule | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of dit that no step changes, block by block (model.wm:20)."""
        memory = []
        for depth, (block, modulation) in enumerate(zip(self.dit.blocks, told.blocks, strict=True)):
            query, key, value = block.project(dit, modulation)
            query = rotated(query, angles)
            key = rotated(key, angles)
            memory.append((key, value))
            if depth == 1:
                break
            mixed = attention(query, key, value, schedule)
            dit = block.merge(dit, mixed, modulation)
            dit = block.feed(dit, modulation)
        return memory

    def step_dit(
        self,
        dit: Tensor,
        told: Told,
        angles: Tensor,
        memory: list[tuple[Tensor, Tensor]],
        schedule: Schedule | None,
    ) -> Tensor:
        """The blocks of dit, seeing `memory` and themselves (model.wm:20)."""
        for block, modulation, (kept_key, kept_value) in zip(
            self.dit.blocks, told.blocks, memory, strict=True
        ):
            query, key, value = block.project(dit, modulation)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(
                query,
                torch.cat([kept_key, key], dim=1),
                torch.cat([kept_value, value], dim=1),
                schedule,
            )
            dit = block.merge(dit, mixed, modulation)
            dit = block.feed(dit, modulation)
        return self.dit.norm.modulate(dit, told.norm)

    def loss_packed(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        camera = samples(batch, "camera", 6, 6, (3, 8, 8), "model.wm:4")
        camera = 2 * camera - 1
        camera_now, camera_future = camera.split([4, 2], dim=1)
        action = samples(batch, "action", 6, 6, (2,), "model.wm:10")
        action = (action - self.action_mean) / self.action_scale
        action_past, action_future = action.split([4, 2], dim=1)
        like = next(self.parameters())
        size = len(camera_now)
        clean = like.new_zeros(size, 1)

        # foresight: camera.future by flow (model.wm:42)
        camera_future_time = shifted(uniform((size, 2), 0, 1, like, generator), 5)
        camera_future_patches = patchify(camera_future, 4, 4)  # model.wm:16
        camera_future_noise = normal(camera_future_patches.shape, like, generator)
        camera_future_noisy = torch.lerp(
            camera_future_patches,
            camera_future_noise,
            camera_future_time.repeat_interleave(4, dim=1)[..., None],
        )

        # act: action.future by flow (model.wm:51)
        action_future_time = uniform((size, 2), 0, 1, like, generator)
        action_future_noise = normal(action_future.shape, like, generator)
        action_future_noisy = torch.lerp(
            action_future, action_future_noise, action_future_time[..., None]
        )

        # clean.camera.now, clean.camera.future: noised again in 0.5 of the samples (model.wm:67)
        again = sometimes((size, 1), 0.5, like, generator)
        clean_camera_now_time = again * shifted(uniform((size, 4), 0, 0.5, like, generator), 5)
        camera_now_patches = patchify(camera_now, 4, 4)  # model.wm:16
        clean_camera_now_noise = normal(camera_now_patches.shape, like, generator)
        clean_camera_now_noisy = torch.lerp(
            camera_now_patches,
            clean_camera_now_noise,
            clean_camera_now_time.repeat_interleave(4, dim=1)[..., None],
        )
        clean_camera_future_time = again * shifted(uniform((size, 2), 0, 0.5, like, generator), 5)
        clean_camera_future_noise = normal(camera_future_patches.shape, like, generator)
        clean_camera_future_noisy = torch.lerp(
            camera_future_patches,
            clean_camera_future_noise,
            clean_camera_future_time.repeat_interleave(4, dim=1)[..., None],
        )

        # numbers drawn at every step (model.wm:64)
        chunk = whole_number(1, 3, like, generator)
        window = whole_number(1, 4, like, generator)
        schedule = self.mask_packed(chunk, window)

        # dit (model.wm:20)
        dit = torch.cat(
            [
                self.dit.camera_now_in(clean_camera_now_noisy),
                self.dit.camera_future_in(clean_camera_future_noisy),
                self.dit.action_past_in(action_past),
                self.dit.action_future_in(action_future),
                self.dit.camera_now_in(camera_now_patches),
                self.dit.camera_future_in(camera_future_noisy),
                self.dit.action_past_in(action_past),
                self.dit.action_future_in(action_future_noisy),
            ],
            dim=1,
        )
        dit_code = Runs(
            self.dit.time(
                torch.cat(
                    [
                        clean_camera_now_time,
                        clean_camera_future_time,
                        clean,
                        camera_future_time,
                        clean,
                        action_future_time,
                    ],
                    dim=1,
                )
            ),
            (4, 4, 4, 4, 4, 4, 22, 4, 4, 4, 1, 1),
        )
        dit_out = self.run_dit(
            dit,
            dit_code,
            torch.cat([self.dit_angles[0:30], self.dit_angles[0:30]], dim=0),
            schedule,
        )

        # foresight: error (model.wm:42)
        camera_future_out = self.dit.camera_future_out(dit_out[:, 46:54])
        camera_valid = validity(batch, "camera", size, 6)
        foresight = valid_mean(
            l2(camera_future_out, camera_future_noise - camera_future_patches), camera_valid[:, 4:6]
        )

        # act: error (model.wm:51)
        action_future_out = self.dit.action_future_out(dit_out[:, 58:60])
        action_valid = validity(batch, "action", size, 6)
        act = valid_mean(
            l2(action_future_out, action_future_noise - action_future), action_valid[:, 4:6]
        )
        return {"loss": foresight + act, "foresight": foresight, "act": act}

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch in every layout; `loss` is the mean of the layouts by share."""
        packed = self.loss_packed(batch, generator)  # model.wm:64
        return {"loss": packed["loss"], "foresight": packed["foresight"], "act": packed["act"]}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """camera.future, action.future given camera.now, action.past (exact) (model.wm:60)."""
        camera = samples(batch, "camera", 4, 6, (3, 8, 8), "model.wm:4")
        camera = 2 * camera - 1
        action = samples(batch, "action", 4, 6, (2,), "model.wm:10")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(camera)

        # camera.future by flow (model.wm:42)
        camera_future = normal((size, 8, 48), like, generator)
        camera_now_patches = patchify(camera, 4, 4)  # model.wm:16
        dit_camera_now = self.dit.camera_now_in(camera_now_patches)
        dit_action_past = self.dit.action_past_in(action)
        dit_given_told = folded(self.dit, [[0]], (20,))[0]
        dit = torch.cat([dit_camera_now, dit_action_past], dim=1)
        memory = self.remember_dit(
            dit,
            dit_given_told,
            torch.cat([self.dit_angles[0:16], self.dit_angles[24:28]], dim=0),
            POLICY_DIT_GIVEN,
        )
        path = descending(steps or 3)
        dit_steps = folded(self.dit, [[shifted(now, 5)] for now, then in path], (8,))
        for (now, then), dit_told in zip(path, dit_steps, strict=True):
            foresight_now = shifted(now, 5)
            foresight_then = shifted(then, 5)
            dit = self.dit.camera_future_in(camera_future)
            dit_out = self.step_dit(dit, dit_told, self.dit_angles[16:24], memory, POLICY_DIT_STEP)
            camera_future_velocity = self.dit.camera_future_out(dit_out)  # model.wm:42
            camera_future = (
                camera_future + (foresight_then - foresight_now) * camera_future_velocity
            )

        # action.future by flow (model.wm:51)
        action_future = normal((size, 2, 2), like, generator)
        dit_given = torch.cat(
            [
                self.dit.camera_now_in(camera_now_patches),
                self.dit.camera_future_in(camera_future),
                self.dit.action_past_in(action),
            ],
            dim=1,
        )
        dit_given_told_ = folded(self.dit, [[0]], (28,))[0]
        memory_ = self.remember_dit(
            dit_given, dit_given_told_, self.dit_angles[0:28], POLICY_DIT_GIVEN_
        )
        path = descending(steps or 3)
        dit_steps_ = folded(self.dit, [[now] for now, then in path], (2,))
        for (now, then), dit_told_ in zip(path, dit_steps_, strict=True):
            dit = self.dit.action_future_in(action_future)
            dit_out = self.step_dit(
                dit, dit_told_, self.dit_angles[28:30], memory_, POLICY_DIT_STEP_
            )
            action_future_velocity = self.dit.action_future_out(dit_out)  # model.wm:51
            action_future = action_future + (then - now) * action_future_velocity
        camera_future_samples = unpatchify(camera_future, (2, 3, 8, 8), 4, 4)
        return {
            "camera": ((camera_future_samples + 1) / 2).clamp(0, 1),
            "action": action_future * self.action_scale + self.action_mean,
        }

    @torch.no_grad()
    def query_passive_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """camera.future given camera.now, action.past (exact) (model.wm:3).

        action.future: deleted exactly
        """
        camera = samples(batch, "camera", 4, 6, (3, 8, 8), "model.wm:4")
        camera = 2 * camera - 1
        action = samples(batch, "action", 4, 6, (2,), "model.wm:10")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(camera)

        # camera.future by flow (model.wm:42)
        camera_future = normal((size, 8, 48), like, generator)
        camera_now_patches = patchify(camera, 4, 4)  # model.wm:16
        dit_camera_now = self.dit.camera_now_in(camera_now_patches)
        dit_action_past = self.dit.action_past_in(action)
        dit_given_told = folded(self.dit, [[0]], (20,))[0]
        dit = torch.cat([dit_camera_now, dit_action_past], dim=1)
        memory = self.remember_dit(
            dit,
            dit_given_told,
            torch.cat([self.dit_angles[0:16], self.dit_angles[24:28]], dim=0),
            POLICY_DIT_GIVEN,
        )
        path = descending(steps or 3)
        dit_steps = folded(self.dit, [[shifted(now, 5)] for now, then in path], (8,))
        for (now, then), dit_told in zip(path, dit_steps, strict=True):
            foresight_now = shifted(now, 5)
            foresight_then = shifted(then, 5)
            dit = self.dit.camera_future_in(camera_future)
            dit_out = self.step_dit(dit, dit_told, self.dit_angles[16:24], memory, POLICY_DIT_STEP)
            camera_future_velocity = self.dit.camera_future_out(dit_out)  # model.wm:42
            camera_future = (
                camera_future + (foresight_then - foresight_now) * camera_future_velocity
            )
        camera_future_samples = unpatchify(camera_future, (2, 3, 8, 8), 4, 4)
        return {"camera": ((camera_future_samples + 1) / 2).clamp(0, 1)}

    @torch.no_grad()
    def query_inverse_dynamics(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action.future given camera.now, action.past, camera.future (exact) (model.wm:3)."""
        camera = samples(batch, "camera", 6, 6, (3, 8, 8), "model.wm:4")
        camera = 2 * camera - 1
        camera_now, camera_future = camera.split([4, 2], dim=1)
        action = samples(batch, "action", 4, 6, (2,), "model.wm:10")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(camera_now)

        # action.future by flow (model.wm:51)
        action_future = normal((size, 2, 2), like, generator)
        camera_now_patches = patchify(camera_now, 4, 4)  # model.wm:16
        camera_future_patches = patchify(camera_future, 4, 4)  # model.wm:16
        dit_given = torch.cat(
            [
                self.dit.camera_now_in(camera_now_patches),
                self.dit.camera_future_in(camera_future_patches),
                self.dit.action_past_in(action),
            ],
            dim=1,
        )
        dit_given_told = folded(self.dit, [[0]], (28,))[0]
        memory = self.remember_dit(
            dit_given, dit_given_told, self.dit_angles[0:28], POLICY_DIT_GIVEN_
        )
        path = descending(steps or 3)
        dit_steps = folded(self.dit, [[now] for now, then in path], (2,))
        for (now, then), dit_told in zip(path, dit_steps, strict=True):
            dit = self.dit.action_future_in(action_future)
            dit_out = self.step_dit(dit, dit_told, self.dit_angles[28:30], memory, POLICY_DIT_STEP_)
            action_future_velocity = self.dit.action_future_out(dit_out)  # model.wm:51
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
                "inverse_dynamics": self.query_inverse_dynamics,
                "passive": self.query_passive_world_model,
                "inverse": self.query_inverse_dynamics,
            },
        )(several(batch, draws), generator, steps)
