"""Framewise: p(o'|o) p(a|o,o').

spec sha256 18aedc1b99cca71569703c7042887d78375fb510c63e02b48ac09c4d13940a6c
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments         batch
scene   video 3x16x16  10 Hz  now 1, future 3  [B, 4, 3, 16, 16]
wrist   video 3x8x16   10 Hz  future 3         [B, 3, 3, 8, 16]
later   video 3x16x16  10 Hz  future 3         [B, 3, 3, 16, 16]
slots   learned 6      -      whole 1          -
asks    learned 8      -      whole 1          -
action  action 3       20 Hz  future 6         [B, 6, 3]

trunk    kind  blocks  width  heads  tokens
seer     dit   2       32     2x16   scene.future:12 wrist.future:6
former   vit   2       24     2x12   slots:6
thinker  vit   1       24     2x12   scene.now:4 asks:8
painter  vit   2       32     2x16   scene.now:4 later.future:12
doer     mlp   2       24     0x0    slots:6 action.future:6

query   answer  steps                       sought | given
policy  exact   scene 10 wrist 10 action 1  action | scene.now

158299 parameters

B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim
F frames  N samples  C channels or features  R rows of codes  V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from wmdsl_kernels import Schedule, attention, gated_residual, modulated_norm, rotated_heads


class Shares:
    """The share [T, T] of each key in the mean of what a query sees, from rows
    (query_start, query_stop, key_start, key_stop)."""

    def __init__(self, tokens: int, ranges: Sequence[tuple[int, int, int, int]]):
        seen_TT = torch.zeros(tokens, tokens)
        for query_start, query_stop, key_start, key_stop in ranges:
            seen_TT[query_start:query_stop, key_start:key_stop] = 1
        self.share_TT = seen_TT / seen_TT.sum(dim=1, keepdim=True)
        self.placed: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """With the dtype and device of x; copied once, since no CUDA graph copies from the host."""
        place = x.dtype, x.device
        found = self.placed.get(place)
        if type(found) is not type(x):  # none yet, or the stand-in of another trace
            with torch.inference_mode(False):  # training may read it next
                found = self.share_TT.to(x)
            if not torch.compiler.is_compiling():
                self.placed[place] = found
        return found


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


def angles_3d(places: list[Tensor], head_dim: int) -> Tensor:
    """Angles [T, K / 2] of places [T, 3]; each axis has a third of them, the first one the rest."""
    places_T3 = torch.cat([part.float() for part in places])
    side = head_dim // 6
    angles = []
    for axis, count in enumerate((head_dim // 2 - 2 * side, side, side)):
        rates = 10000.0 ** (-torch.arange(count) / count)
        angles.append(torch.outer(places_T3[:, axis], rates))
    return torch.cat(angles, dim=1)


def leads(first: int, frames: int, count: int) -> Tensor:
    """Places (frame, 0, 0) of so many tokens in front of each frame [T, 3]."""
    places = torch.arange(first, first + frames).repeat_interleave(count)
    return torch.stack([places, torch.zeros_like(places), torch.zeros_like(places)], dim=1)


def cells(first: int, frames: int, rows: int, columns: int) -> Tensor:
    """Places (frame, row, column) of the cells of frames [T, 3], counted from frame `first`."""
    sides = torch.arange(first, first + frames), torch.arange(rows), torch.arange(columns)
    return torch.cartesian_prod(*sides)


class MeanLayer(nn.Linear):
    """Tokens and, added to them, a layer over the mean of the tokens that each one sees."""

    def forward(self, x_BTW: Tensor, shares: Shares) -> Tensor:
        return x_BTW + functional.gelu(super().forward(shares.like(x_BTW) @ x_BTW))


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


class SourceEmbedding(nn.Sequential):
    """Source tokens [B, S, C] at the width of their reader."""

    def __init__(self, source_width: int, width: int):
        gelu = nn.GELU(approximate="tanh")
        super().__init__(nn.Linear(source_width, width), gelu, nn.Linear(width, width))


class GatedCrossAttention(CrossAttention):
    """Cross-attention behind a gate per channel that starts closed."""

    def __init__(self, width: int, source_width: int, heads: int, kv_heads: int, head_dim: int):
        super().__init__(width, source_width, heads, kv_heads, head_dim)
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, x_BTW: Tensor, source_BSC: Tensor) -> Tensor:
        return x_BTW + self.gate * self.read(x_BTW, source_BSC)


def by_frame(reader: nn.Module, x_BTW: Tensor, source_NSC: Tensor) -> Tensor:
    """Tokens, shared out evenly over the frames of a source [B F, S, C], read one frame each."""
    frames = len(source_NSC) // len(x_BTW)
    read = reader(x_BTW.unflatten(1, (frames, -1)).flatten(0, 1), source_NSC)
    return read.unflatten(0, (-1, frames)).flatten(1, 2)


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


def framewise(sources: list[Tensor], frames: int) -> Tensor:
    """Source tokens [B, F s, C], those of each frame side by side: [B F, S, C]."""
    parts = [source.unflatten(1, (frames, -1)) for source in sources]
    return torch.cat(parts, dim=2).flatten(0, 1)


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


TRAIN_PAINTER = Schedule.from_ranges(
    24,
    24,
    [
        (0, 2, 0, 2),
        (0, 2, 8, 12),
        (2, 4, 0, 4),
        (2, 4, 8, 16),
        (4, 6, 0, 6),
        (4, 6, 8, 20),
        (6, 8, 0, 24),
        (8, 12, 0, 2),
        (8, 12, 8, 12),
        (12, 16, 0, 4),
        (12, 16, 8, 16),
        (16, 20, 0, 6),
        (16, 20, 8, 20),
        (20, 24, 0, 24),
    ],
)  # model.wm:91
TRAIN_DOER = Shares(
    13,
    [
        (0, 1, 0, 1),
        (1, 3, 0, 3),
        (1, 3, 7, 9),
        (3, 5, 0, 1),
        (3, 5, 3, 5),
        (3, 5, 9, 11),
        (5, 7, 0, 1),
        (5, 7, 5, 7),
        (5, 7, 11, 13),
        (7, 9, 0, 3),
        (7, 9, 7, 9),
        (9, 11, 0, 1),
        (9, 11, 3, 5),
        (9, 11, 9, 11),
        (11, 13, 0, 1),
        (11, 13, 5, 7),
        (11, 13, 11, 13),
    ],
)  # model.wm:97


class Framewise(nn.Module):
    """The model `framewise`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:28)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # trunk seer: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:37)
        self.seer = nn.ModuleDict(
            dict(
                scene_future_in=Tokens(192, 32, 12),
                wrist_in=Tokens(192, 32, 6),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                scene_future_out=Head(32, 192),
                wrist_out=Head(32, 192),
            )
        )

        # trunk former: vit, 2 blocks, width 24, 2 heads x 12 (model.wm:48)
        self.former = nn.ModuleDict(
            dict(
                slots_in=Places(6, 24),
                blocks=nn.ModuleList([ViTBlock(24, Heads(24, 2, 2, 12), 96) for _ in range(2)]),
                norm=nn.LayerNorm(24),
            )
        )

        # trunk thinker: vit, 1 blocks, width 24, 2 heads x 12 (model.wm:56)
        self.thinker = nn.ModuleDict(
            dict(
                scene_now_in=Tokens(192, 24, 4),
                asks_in=Places(8, 24),
                blocks=nn.ModuleList([ViTBlock(24, Heads(24, 2, 2, 12), 96) for _ in range(1)]),
                norm=nn.LayerNorm(24),
            )
        )

        # trunk painter: vit, 2 blocks, width 32, 2 heads x 16 (model.wm:64)
        self.painter = nn.ModuleDict(
            dict(
                scene_now_in=nn.Linear(192, 32),
                later_in=Places(12, 32),
                blocks=nn.ModuleList([ViTBlock(32, Heads(32, 2, 2, 16), 128) for _ in range(2)]),
                norm=nn.LayerNorm(32),
                later_out=Head(32, 192),
            )
        )
        self.register_buffer(
            "painter_angles",
            angles_3d([leads(0, 1, 2), leads(0, 3, 2), cells(0, 1, 2, 2), cells(0, 3, 2, 2)], 16),
            persistent=False,
        )

        # trunk doer: mlp, 2 blocks, width 24 (model.wm:72)
        self.doer = nn.ModuleDict(
            dict(
                slots_in=Places(6, 24),
                action_in=Places(6, 24),
                blocks=nn.ModuleList([MeanLayer(24, 24) for _ in range(2)]),
                action_out=Head(24, 3),
            )
        )

        # cross look -> former (model.wm:77)
        self.look = nn.ModuleList([CrossAttention(24, 24, 2, 2, 12) for _ in range(2)])
        self.look_embed = SourceEmbedding(32, 24)

        # cross again -> former (model.wm:83)
        self.again = nn.ModuleDict({"1": GatedCrossAttention(24, 32, 2, 2, 12)})

        # condition first by channel (model.wm:88)
        self.first = nn.Linear(192, 32)

        # condition question by prefix_per_frame (model.wm:89)
        self.question = nn.Linear(24, 32)

        # condition pooled by prefix (model.wm:90)
        self.pooled = nn.Linear(24, 24)

    def run_seer(self, seer: Tensor, code: Runs) -> Tensor:
        """The blocks of seer (model.wm:37)."""
        for block in self.seer.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(seer, modulation)
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
        return self.seer.norm(seer, code)

    def run_seer_(self, seer: Tensor, code: Runs) -> tuple[Tensor, ...]:
        """The blocks of seer (model.wm:37)."""
        for depth, block in enumerate(self.seer.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(seer, modulation)
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
            if depth == 0:
                seer_after_1 = seer
            if depth == 1:
                seer_after_2 = seer
        return seer_after_1, seer_after_2

    def run_former(self, former: Tensor, look: Tensor, again: Tensor) -> Tensor:
        """The blocks of former (model.wm:48)."""
        for depth, block in enumerate(self.former.blocks):
            query, key, value = block.project(former)
            mixed = attention(query, key, value)
            former = block.merge(former, mixed)
            former = by_frame(self.look[depth], former, look)  # model.wm:77
            if str(depth) in self.again:
                former = by_frame(self.again[str(depth)], former, again)  # model.wm:83
            former = block.feed(former)
        return self.former.norm(former)

    def run_thinker(self, thinker: Tensor) -> Tensor:
        """The blocks of thinker (model.wm:56)."""
        for block in self.thinker.blocks:
            query, key, value = block.project(thinker)
            mixed = attention(query, key, value)
            thinker = block.merge(thinker, mixed)
            thinker = block.feed(thinker)
        return self.thinker.norm(thinker)

    def run_painter(self, painter: Tensor, angles: Tensor, schedule: Schedule | None) -> Tensor:
        """The blocks of painter (model.wm:64)."""
        for block in self.painter.blocks:
            query, key, value = block.project(painter)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(query, key, value, schedule)
            painter = block.merge(painter, mixed)
            painter = block.feed(painter)
        return self.painter.norm(painter)

    def run_doer(self, doer: Tensor, seen: Shares) -> Tensor:
        """The blocks of doer (model.wm:72)."""
        for block in self.doer.blocks:
            doer = block(doer, seen)
        return doer

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 4, 4, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([1, 3], dim=1)
        wrist = samples(batch, "wrist", 3, 3, (3, 8, 16), "model.wm:10")
        wrist = 2 * wrist - 1
        later = samples(batch, "later", 3, 3, (3, 16, 16), "model.wm:15")
        later = 2 * later - 1
        action = samples(batch, "action", 6, 6, (3,), "model.wm:28")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene_now)

        # foresight: scene.future, wrist.future by flow (model.wm:103)
        scene_future_time = uniform((size, 1), 0, 1, like, generator)
        scene_future_patches = patchify(scene_future, 8, 8)  # model.wm:33
        scene_future_noise = normal(scene_future_patches.shape, like, generator)
        scene_future_noisy = torch.lerp(
            scene_future_patches, scene_future_noise, scene_future_time[..., None]
        )
        wrist_time = uniform((size, 1), 0, 1, like, generator)
        wrist_patches = patchify(wrist, 8, 8)  # model.wm:33
        wrist_noise = normal(wrist_patches.shape, like, generator)
        wrist_noisy = torch.lerp(wrist_patches, wrist_noise, wrist_time[..., None])

        # paint: later.future by regression (model.wm:112)

        # act: action.future by regression (model.wm:116)

        # seer (model.wm:37)
        scene_now_patches = patchify(scene_now, 8, 8)  # model.wm:33
        seer = torch.cat(
            [
                self.seer.scene_future_in(scene_future_noisy)
                + self.first(scene_now_patches.repeat(1, 3, 1)),
                self.seer.wrist_in(wrist_noisy),
            ],
            dim=1,
        )
        seer_code = Runs(self.seer.time(torch.cat([scene_future_time, wrist_time], dim=1)), (12, 6))
        seer_out = self.run_seer(seer, seer_code)

        # seer, read at time 0.5 (model.wm:37)
        scene_future_held = torch.lerp(
            scene_future_patches, normal(scene_future_patches.shape, like, generator), 0.5
        )
        wrist_held = torch.lerp(wrist_patches, normal(wrist_patches.shape, like, generator), 0.5)
        seer_ = torch.cat(
            [
                self.seer.scene_future_in(scene_future_held)
                + self.first(scene_now_patches.repeat(1, 3, 1)),
                self.seer.wrist_in(wrist_held),
            ],
            dim=1,
        )
        seer_code_ = Runs(self.seer.time(like.new_full((size, 1), 0.5)), (18,))
        seer_after_1_held, seer_after_2_held = self.run_seer_(seer_, seer_code_)

        # former (model.wm:48)
        former = self.former.slots_in(size)
        look = self.look_embed(
            framewise([seer_after_1_held[:, 0:12], seer_after_1_held[:, 12:18]], 3)
        )
        again = framewise([seer_after_2_held[:, 12:18].detach()], 3)
        former_out = self.run_former(former, look, again)

        # thinker (model.wm:56)
        thinker = torch.cat(
            [self.thinker.scene_now_in(scene_now_patches), self.thinker.asks_in(size)], dim=1
        )
        thinker_out = self.run_thinker(thinker)

        # painter (model.wm:64)
        painter = torch.cat(
            [
                self.question(thinker_out[:, 4:12]),
                self.painter.scene_now_in(scene_now_patches),
                self.painter.later_in(size),
            ],
            dim=1,
        )
        painter_out = self.run_painter(painter, self.painter_angles, TRAIN_PAINTER)

        # doer (model.wm:72)
        doer = torch.cat(
            [
                self.pooled(former_out.mean(dim=1))[:, None],
                self.doer.slots_in(size),
                self.doer.action_in(size),
            ],
            dim=1,
        )
        doer_out = self.run_doer(doer, TRAIN_DOER)

        # foresight: error (model.wm:103)
        scene_future_out = self.seer.scene_future_out(seer_out[:, 0:12])
        scene_valid = validity(batch, "scene", size, 4)
        scene_future_error = valid_mean(
            l2(scene_future_out, scene_future_noise - scene_future_patches), scene_valid[:, 1:4]
        )
        wrist_out = self.seer.wrist_out(seer_out[:, 12:18])
        wrist_valid = validity(batch, "wrist", size, 3)
        wrist_error = valid_mean(l2(wrist_out, wrist_noise - wrist_patches), wrist_valid)
        foresight = (scene_future_error + wrist_error) / 2

        # paint: error (model.wm:112)
        later_out = self.painter.later_out(painter_out[:, 12:24])
        later_patches = patchify(later, 8, 8)  # model.wm:33
        later_valid = validity(batch, "later", size, 3)
        paint = valid_mean(l2(later_out, later_patches), later_valid)

        # act: error (model.wm:116)
        action_out = self.doer.action_out(doer_out[:, 7:13])
        action_valid = validity(batch, "action", size, 6)
        act = valid_mean(l2(action_out, action), action_valid)
        return {"loss": foresight + paint + act, "foresight": foresight, "paint": paint, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene.now (exact) (model.wm:120).

        scene.future: not optional
        wrist.future: not optional
        scene.now: deleted exactly
        asks: deleted exactly
        question: deleted exactly
        later.future: deleted exactly
        """
        scene = samples(batch, "scene", 1, 4, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        like = next(self.parameters())
        size = len(scene)

        # scene.future and wrist.future by flow (model.wm:103)
        scene_future = normal((size, 12, 192), like, generator)
        wrist = normal((size, 6, 192), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:33
        first = self.first(scene_now_patches.repeat(1, 3, 1))
        for now, then in descending(steps or 10, 0.5):
            scene_future_time = like.new_full((size, 1), now)
            wrist_time = like.new_full((size, 1), now)
            seer = torch.cat(
                [self.seer.scene_future_in(scene_future) + first, self.seer.wrist_in(wrist)], dim=1
            )
            seer_code = Runs(
                self.seer.time(torch.cat([scene_future_time, wrist_time], dim=1)), (12, 6)
            )
            seer_out = self.run_seer(seer, seer_code)
            scene_future_velocity = self.seer.scene_future_out(seer_out[:, 0:12])  # model.wm:103
            scene_future = scene_future + (then - now) * scene_future_velocity
            wrist_velocity = self.seer.wrist_out(seer_out[:, 12:18])  # model.wm:103
            wrist = wrist + (then - now) * wrist_velocity

        # action.future by regression (model.wm:116)
        seer_ = torch.cat(
            [
                self.seer.scene_future_in(scene_future)
                + self.first(scene_now_patches.repeat(1, 3, 1)),
                self.seer.wrist_in(wrist),
            ],
            dim=1,
        )
        seer_code_ = Runs(self.seer.time(like.new_full((size, 1), 0.5)), (18,))
        seer_after_1_held, seer_after_2_held = self.run_seer_(seer_, seer_code_)
        former = self.former.slots_in(size)
        look = self.look_embed(
            framewise([seer_after_1_held[:, 0:12], seer_after_1_held[:, 12:18]], 3)
        )
        again = framewise([seer_after_2_held[:, 12:18].detach()], 3)
        former_out = self.run_former(former, look, again)
        doer = torch.cat(
            [
                self.pooled(former_out.mean(dim=1))[:, None],
                self.doer.slots_in(size),
                self.doer.action_in(size),
            ],
            dim=1,
        )
        doer_out = self.run_doer(doer, TRAIN_DOER)
        action = self.doer.action_out(doer_out[:, 7:13])
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_passive_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future, wrist, later given scene.now (exact) (model.wm:3).

        slots: deleted exactly
        pooled: deleted exactly
        action.future: deleted exactly
        """
        scene = samples(batch, "scene", 1, 4, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        like = next(self.parameters())
        size = len(scene)

        # scene.future and wrist.future by flow (model.wm:103)
        scene_future = normal((size, 12, 192), like, generator)
        wrist = normal((size, 6, 192), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:33
        first = self.first(scene_now_patches.repeat(1, 3, 1))
        for now, then in descending(steps or 10):
            scene_future_time = like.new_full((size, 1), now)
            wrist_time = like.new_full((size, 1), now)
            seer = torch.cat(
                [self.seer.scene_future_in(scene_future) + first, self.seer.wrist_in(wrist)], dim=1
            )
            seer_code = Runs(
                self.seer.time(torch.cat([scene_future_time, wrist_time], dim=1)), (12, 6)
            )
            seer_out = self.run_seer(seer, seer_code)
            scene_future_velocity = self.seer.scene_future_out(seer_out[:, 0:12])  # model.wm:103
            scene_future = scene_future + (then - now) * scene_future_velocity
            wrist_velocity = self.seer.wrist_out(seer_out[:, 12:18])  # model.wm:103
            wrist = wrist + (then - now) * wrist_velocity

        # later.future by regression (model.wm:112)
        thinker = torch.cat(
            [self.thinker.scene_now_in(scene_now_patches), self.thinker.asks_in(size)], dim=1
        )
        thinker_out = self.run_thinker(thinker)
        painter = torch.cat(
            [
                self.question(thinker_out[:, 4:12]),
                self.painter.scene_now_in(scene_now_patches),
                self.painter.later_in(size),
            ],
            dim=1,
        )
        painter_out = self.run_painter(painter, self.painter_angles, TRAIN_PAINTER)
        later = self.painter.later_out(painter_out[:, 12:24])
        scene_future_samples = unpatchify(scene_future, (3, 3, 16, 16), 8, 8)
        wrist_samples = unpatchify(wrist, (3, 3, 8, 16), 8, 8)
        later_samples = unpatchify(later, (3, 3, 16, 16), 8, 8)
        return {
            "scene": ((scene_future_samples + 1) / 2).clamp(0, 1),
            "wrist": ((wrist_samples + 1) / 2).clamp(0, 1),
            "later": ((later_samples + 1) / 2).clamp(0, 1),
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
        return chosen(
            name,
            {
                "policy": self.query_policy,
                "passive_world_model": self.query_passive_world_model,
                "passive": self.query_passive_world_model,
            },
        )(several(batch, draws), generator, steps)
