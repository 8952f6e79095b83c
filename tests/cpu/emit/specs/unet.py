"""Unet: p(o'|o,l) p(o'|o,o',l) p(a|o,l).

spec sha256 d2daec33362c3a5b8c5aaacce64b490a1c6af4bde0c51e60b76278ee75d7965e
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments         batch
scene   video 3x12x12  10 Hz  now 1, future 2  [B, 3, 3, 12, 12]
wrist   video 3x12x12  10 Hz  future 3         [B, 3, 3, 12, 12]
text    language 8     -      whole 1          [B, 8]
action  action 3       20 Hz  future 4         [B, 4, 3]

trunk    kind  blocks  width  heads  tokens
painter  unet  5       16     1x16   scene.future:18 wrist.future:27
doer     dit   2       24     2x12   action.future:4

query    answer  steps            sought | given
policy   exact   action 3         action | scene.now, text
imagine  exact   scene 2 wrist 2  scene.future, wrist | scene.now, text

125499 parameters

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


class BytesEncoder(nn.Module):
    """Bytes [B, T] (byte + 1, 0 pads) -> pooled tokens [B, tokens, W]; padding is never read."""

    def __init__(self, length: int, width: int, layers: int, heads: int, tokens: int):
        super().__init__()
        self.table = nn.Embedding(257, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(
            [
                ViTBlock(width, Heads(width, heads, heads, width // heads), 4 * width)
                for _ in range(layers)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, tokens, bias=False)

    def forward(self, bytes_BT: Tensor) -> Tensor:
        # How many texts differ the host learns of a GPU only by waiting, which no CUDA graph can.
        if len(bytes_BT) == 1 or (bytes_BT.is_cuda and not torch.is_grad_enabled()):
            return self.encoded(bytes_BT)
        # Most samples of a batch share their instruction: each text is encoded once.
        texts, text_of_sample = torch.unique(bytes_BT, dim=0, return_inverse=True)
        return self.encoded(texts)[text_of_sample]

    def encoded(self, bytes_BT: Tensor) -> Tensor:
        """Every row by itself."""
        # A large finite number: an empty text must not become NaN.
        hidden = torch.zeros(bytes_BT.shape, device=bytes_BT.device, dtype=self.places.dtype)
        hidden = hidden.masked_fill(bytes_BT == 0, -1e9)
        x = self.table(bytes_BT) + self.places
        for block in self.blocks:
            heads = [part.transpose(1, 2) for part in block.project(x)]
            mixed = functional.scaled_dot_product_attention(*heads, attn_mask=hidden[:, None, None])
            x = block.feed(block.merge(x, mixed.transpose(1, 2)))
        x = self.norm(x)
        weight = (self.scores(x) + hidden[..., None]).softmax(dim=1)
        return weight.transpose(1, 2) @ x


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


class MapResidual(nn.Module):
    """Two convolutions of each frame, scaled and shifted by the code of the video between them."""

    def __init__(self, width: int):
        super().__init__()
        self.enter_norm = nn.GroupNorm(math.gcd(8, width), width)
        self.enter = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.leave_norm = nn.GroupNorm(math.gcd(8, width), width)
        self.leave = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.numbers = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x_BFWHV: Tensor, code_BW: Tensor) -> Tensor:
        numbers = self.numbers(functional.silu(code_BW)).repeat_interleave(x_BFWHV.shape[1], dim=0)
        scale, shift = numbers[..., None, None].chunk(2, dim=1)
        change = self.enter(functional.silu(self.enter_norm(x_BFWHV.flatten(0, 1))))
        change = self.leave(functional.silu(self.leave_norm(change) * (1 + scale) + shift))
        return x_BFWHV + change.unflatten(0, x_BFWHV.shape[:2])


class OverTime(nn.Module):
    """A convolution of each cell over three frames, added to it."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(8, width), width)
        self.layer = nn.Conv3d(width, width, kernel_size=(3, 1, 1), padding=(1, 0, 0))
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x_BFWHV: Tensor) -> Tensor:
        change = self.layer(functional.silu(self.norm(x_BFWHV.transpose(1, 2))))
        return x_BFWHV + change.transpose(1, 2)


class Videos(NamedTuple):
    """(frames, rows, columns) of the tokens of each video, and the videos that each one sees."""

    shapes: tuple[tuple[int, int, int], ...]
    sees: tuple[tuple[int, ...], ...]


class UNetBlock(nn.Module):
    """Convolutions, then attention among the cells of a frame, then of a cell over the frames."""

    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__()
        self.residual = MapResidual(width)
        self.over_time = OverTime(width)
        self.cells_norm = nn.LayerNorm(width)
        self.cells = Heads(width, heads, heads, head_dim)
        self.frames_norm = nn.LayerNorm(width)
        self.frames = Heads(width, heads, heads, head_dim)

    def enter(self, maps: list[Tensor], skips: list[list[Tensor]]) -> list[Tensor]:
        """What comes in."""
        return maps

    def forward(self, maps: list[Tensor], code_BGW: Tensor, videos: Videos) -> list[Tensor]:
        codes = code_BGW.unbind(dim=1)
        coded = zip(maps, codes, strict=True)
        maps = [self.over_time(self.residual(x, code)) for x, code in coded]
        return self.among_frames([self.among_cells(x) for x in maps], videos)

    def among_cells(self, x_BFWHV: Tensor) -> Tensor:
        """Attention of the cells of each frame."""
        x = x_BFWHV.movedim(2, -1).flatten(2, 3).flatten(0, 1)
        x = x + self.cells.merge(attention(*self.cells.project(self.cells_norm(x))))
        x = x.unflatten(0, x_BFWHV.shape[:2])
        return x.unflatten(2, x_BFWHV.shape[3:]).movedim(-1, 2)

    def among_frames(self, maps: list[Tensor], videos: Videos) -> list[Tensor]:
        """Attention of each cell over the frames of all videos that its own sees."""
        rows = [x.permute(0, 3, 4, 1, 2).flatten(0, 2) for x in maps]
        queries, keys, values = zip(
            *(self.frames.project(self.frames_norm(row)) for row in rows), strict=True
        )
        changed = []
        for own, (x, row, seen) in enumerate(zip(maps, rows, videos.sees, strict=True)):
            key = torch.cat([keys[other] for other in seen], dim=1)
            value = torch.cat([values[other] for other in seen], dim=1)
            row = row + self.frames.merge(attention(queries[own], key, value))
            row = row.unflatten(0, (x.shape[0], *x.shape[3:]))
            changed.append(row.permute(0, 3, 4, 1, 2))
        return changed

    def leave(self, maps: list[Tensor], skips: list[list[Tensor]]) -> None:
        """What goes out is kept where a later block takes it up."""


class DownBlock(UNetBlock):
    """A block on the way down; with stride 2 it halves rows and columns."""

    def __init__(self, width: int, heads: int, head_dim: int, stride: int):
        super().__init__(width, heads, head_dim)
        self.inward = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1)

    def enter(self, maps: list[Tensor], skips: list[list[Tensor]]) -> list[Tensor]:
        return [self.inward(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for x in maps]

    def leave(self, maps: list[Tensor], skips: list[list[Tensor]]) -> None:
        skips.append(maps)


def resized(x_BFWHV: Tensor, size: tuple[int, int]) -> Tensor:
    """Every frame at another size: each cell takes the nearest one."""
    frames = functional.interpolate(x_BFWHV.flatten(0, 1), size, mode="nearest-exact")
    return frames.unflatten(0, x_BFWHV.shape[:2])


class UpBlock(UNetBlock):
    """A block on the way up; it takes up the last maps kept on the way down, at their size."""

    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__(width, heads, head_dim)
        self.inward = nn.Conv2d(2 * width, width, kernel_size=3, padding=1)

    def enter(self, maps: list[Tensor], skips: list[list[Tensor]]) -> list[Tensor]:
        pairs = zip(maps, skips.pop(), strict=True)
        both = [torch.cat([resized(x, skip.shape[3:]), skip], dim=2) for x, skip in pairs]
        return [self.inward(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for x in both]


def unet_blocks(
    width: int, heads: int, head_dim: int, strides: tuple[int, ...], middle: int
) -> nn.ModuleList:
    """Blocks down with these strides, so many in the middle, and as many up as down."""
    down = [DownBlock(width, heads, head_dim, stride) for stride in strides]
    between = [UNetBlock(width, heads, head_dim) for _ in range(middle)]
    up = [UpBlock(width, heads, head_dim) for _ in strides]
    return nn.ModuleList([*down, *between, *up])


class Head(nn.Linear):
    """Linear read-out of tokens that starts at zero."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class Tokens(nn.Module):
    """Features [B, T, C] -> tokens [B, T, W], with a learned place for each token."""

    def __init__(self, features: int, width: int, count: int):
        super().__init__()
        self.projection = nn.Linear(features, width)
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.projection(x_BTC) + self.places


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


def to_maps(x_BTW: Tensor, videos: Videos) -> list[Tensor]:
    """Tokens of all videos -> a map [B, F, W, H, V] of each."""
    parts = x_BTW.split([math.prod(shape) for shape in videos.shapes], dim=1)
    shaped = zip(parts, videos.shapes, strict=True)
    return [part.unflatten(1, shape).movedim(-1, 2) for part, shape in shaped]


def flat(x_BFWHV: Tensor) -> Tensor:
    """The cells of all frames as tokens [B, F H V, W]."""
    return x_BFWHV.movedim(2, -1).flatten(1, 3)


def over_maps(reader: nn.Module, maps: list[Tensor], source_BSC: Tensor) -> list[Tensor]:
    """The cells of every video read a source."""
    read = (reader(flat(x), source_BSC) for x in maps)
    sizes = ((x.shape[1], *x.shape[3:]) for x in maps)
    return [x.unflatten(1, size).movedim(-1, 2) for x, size in zip(read, sizes, strict=True)]


def to_tokens(maps: list[Tensor], videos: Videos) -> Tensor:
    """Maps, enlarged to the cells of their tokens [B, T, W]."""
    shaped = zip(maps, videos.shapes, strict=True)
    return torch.cat([flat(resized(x, shape[1:])) for x, shape in shaped], dim=1)


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


def whole(batch: Mapping[str, Tensor], name: str, shape: tuple[int, ...], at: str) -> Tensor:
    """A stream without a time axis [B, *shape]."""
    if name not in batch:
        raise ValueError(f"the batch has no {name!r}, which {at} declares")
    x = batch[name]
    if x.shape[1:] != shape:
        wanted = ", ".join(("B", *map(str, shape)))
        raise ValueError(f"batch[{name!r}] is {list(x.shape)}, but {at} declares [{wanted}]")
    return x


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


class Unet(nn.Module):
    """The model `unet`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:19)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # codec words: bytes (model.wm:24)
        self.words = BytesEncoder(8, 32, layers=1, heads=1, tokens=3)

        # trunk painter: unet, 5 blocks, width 16, 1 heads x 16 (model.wm:34)
        self.painter = nn.ModuleDict(
            dict(
                scene_future_in=nn.Linear(48, 16),
                wrist_in=nn.Linear(48, 16),
                time=TimeCode(16),
                blocks=unet_blocks(16, 1, 16, strides=(1, 2), middle=1),
                norm=nn.LayerNorm(16),
                scene_future_out=Head(16, 48),
                wrist_out=Head(16, 48),
            )
        )

        # trunk doer: dit, 2 blocks, width 24, 2 heads x 12 (model.wm:40)
        self.doer = nn.ModuleDict(
            dict(
                action_in=Tokens(3, 24, 4),
                time=TimeCode(24),
                blocks=nn.ModuleList(
                    [DiTBlock(24, Heads(24, 2, 2, 12), AdaLN(24, count=6), 96) for _ in range(2)]
                ),
                norm=ModulatedNorm(24),
                action_out=Head(24, 3),
            )
        )

        # cross prompt -> painter (model.wm:51)
        self.prompt = nn.ModuleDict(
            {
                "0": CrossAttention(16, 32, 1, 1, 16),
                "1": CrossAttention(16, 32, 1, 1, 16),
                "2": CrossAttention(16, 32, 1, 1, 16),
                "3": CrossAttention(16, 32, 1, 1, 16),
            }
        )

        # cross look -> doer (model.wm:55)
        self.look = nn.ModuleList([CrossAttention(24, 16, 2, 2, 12) for _ in range(2)])

        # condition first by channel (model.wm:59)
        self.first = nn.Linear(48, 16)

    def run_painter(self, painter: Tensor, code: Tensor, prompt: Tensor, videos: Videos) -> Tensor:
        """The blocks of painter (model.wm:34)."""
        maps = to_maps(painter, videos)
        skips = []
        for depth, block in enumerate(self.painter.blocks):
            maps = block(block.enter(maps, skips), code, videos)
            if str(depth) in self.prompt:
                maps = over_maps(self.prompt[str(depth)], maps, prompt)  # model.wm:51
            block.leave(maps, skips)
        return self.painter.norm(to_tokens(maps, videos))

    def run_painter_(self, painter: Tensor, code: Tensor, prompt: Tensor, videos: Videos) -> Tensor:
        """The blocks of painter (model.wm:34)."""
        maps = to_maps(painter, videos)
        skips = []
        for depth, block in enumerate(self.painter.blocks):
            maps = block(block.enter(maps, skips), code, videos)
            if str(depth) in self.prompt:
                maps = over_maps(self.prompt[str(depth)], maps, prompt)  # model.wm:51
            block.leave(maps, skips)
            if depth == 3:
                painter_after_4 = to_tokens(maps, videos)
        return painter_after_4

    def run_doer(self, doer: Tensor, code: Runs, look: Tensor) -> Tensor:
        """The blocks of doer (model.wm:40)."""
        for depth, block in enumerate(self.doer.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(doer, modulation)
            mixed = attention(query, key, value)
            doer = block.merge(doer, mixed, modulation)
            doer = self.look[depth](doer, look)  # model.wm:55
            doer = block.feed(doer, modulation)
        return self.doer.norm(doer, code)

    def run_painter_to_4(
        self, painter: Tensor, code: Tensor, prompt: Tensor, videos: Videos
    ) -> Tensor:
        """The blocks of painter (model.wm:34)."""
        maps = to_maps(painter, videos)
        skips = []
        for depth, block in enumerate(self.painter.blocks[:4]):
            maps = block(block.enter(maps, skips), code, videos)
            if str(depth) in self.prompt:
                maps = over_maps(self.prompt[str(depth)], maps, prompt)  # model.wm:51
            block.leave(maps, skips)
            if depth == 3:
                painter_after_4 = to_tokens(maps, videos)
        return painter_after_4

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 3, 3, (3, 12, 12), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([1, 2], dim=1)
        wrist = samples(batch, "wrist", 3, 3, (3, 12, 12), "model.wm:10")
        wrist = 2 * wrist - 1
        text = whole(batch, "text", (8,), "model.wm:15")
        action = samples(batch, "action", 4, 4, (3,), "model.wm:19")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene_now)

        # foresight: scene.future, wrist.future by diffusion (model.wm:64)
        scene_future_time = uniform((size, 1), 0, 1, like, generator)
        scene_future_patches = patchify(scene_future, 4, 4)  # model.wm:30
        scene_future_noise = normal(scene_future_patches.shape, like, generator)
        scene_future_noisy = noised(
            scene_future_patches, scene_future_noise, scene_future_time[..., None]
        )
        wrist_time = uniform((size, 1), 0, 1, like, generator)
        wrist_patches = patchify(wrist, 4, 4)  # model.wm:30
        wrist_noise = normal(wrist_patches.shape, like, generator)
        wrist_noisy = noised(wrist_patches, wrist_noise, wrist_time[..., None])

        # act: action.future by flow (model.wm:73)
        action_time = uniform((size, 1), 0, 1, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = torch.lerp(action, action_noise, action_time[..., None])

        # painter (model.wm:34)
        scene_now_patches = patchify(scene_now, 4, 4)  # model.wm:30
        painter = torch.cat(
            [
                self.painter.scene_future_in(scene_future_noisy)
                + self.first(scene_now_patches.repeat(1, 2, 1)),
                self.painter.wrist_in(wrist_noisy),
            ],
            dim=1,
        )
        painter_code = self.painter.time(torch.cat([scene_future_time, wrist_time], dim=1))
        text_words = self.words(text)  # model.wm:24
        painter_out = self.run_painter(
            painter, painter_code, text_words, Videos(((2, 3, 3), (3, 3, 3)), ((0,), (0, 1)))
        )

        # painter, read at time 1 (model.wm:34)
        scene_future_held = normal(scene_future_patches.shape, like, generator)
        wrist_held = normal(wrist_patches.shape, like, generator)
        painter_ = torch.cat(
            [
                self.painter.scene_future_in(scene_future_held)
                + self.first(scene_now_patches.repeat(1, 2, 1)),
                self.painter.wrist_in(wrist_held),
            ],
            dim=1,
        )
        painter_code_ = self.painter.time(
            torch.cat([like.new_full((size, 1), 1), like.new_full((size, 1), 1)], dim=1)
        )
        painter_after_4_held = self.run_painter_(
            painter_, painter_code_, text_words, Videos(((2, 3, 3), (3, 3, 3)), ((0,), (0, 1)))
        )

        # doer (model.wm:40)
        doer = self.doer.action_in(action_noisy)
        doer_code = Runs(self.doer.time(action_time), (4,))
        doer_out = self.run_doer(doer, doer_code, painter_after_4_held.detach())

        # foresight: error (model.wm:64)
        scene_future_out = self.painter.scene_future_out(painter_out[:, 0:18])
        scene_valid = validity(batch, "scene", size, 3)
        scene_future_error = valid_mean(
            l2(
                scene_future_out,
                velocity_of(scene_future_patches, scene_future_noise, scene_future_time[..., None]),
            ),
            scene_valid[:, 1:3],
        )
        wrist_out = self.painter.wrist_out(painter_out[:, 18:45])
        wrist_valid = validity(batch, "wrist", size, 3)
        wrist_error = valid_mean(
            l2(wrist_out, velocity_of(wrist_patches, wrist_noise, wrist_time[..., None])),
            wrist_valid,
        )
        foresight = (scene_future_error + wrist_error) / 2

        # act: error (model.wm:73)
        action_out = self.doer.action_out(doer_out)
        action_valid = validity(batch, "action", size, 4)
        act = valid_mean(l2(action_out, action_noise - action), action_valid)
        return {"loss": foresight + act, "foresight": foresight, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene.now, text (exact) (model.wm:82).

        scene.future: pinned at noise
        wrist.future: pinned at noise
        painter layer 4: head skipped
        """
        scene = samples(batch, "scene", 1, 3, (3, 12, 12), "model.wm:4")
        scene = 2 * scene - 1
        text = whole(batch, "text", (8,), "model.wm:15")
        like = next(self.parameters())
        size = len(scene)

        # action.future by flow (model.wm:73)
        scene_future_held = normal((size, 18, 48), like, generator)
        wrist_held = normal((size, 27, 48), like, generator)
        action = normal((size, 4, 3), like, generator)
        scene_now_patches = patchify(scene, 4, 4)  # model.wm:30
        painter = torch.cat(
            [
                self.painter.scene_future_in(scene_future_held)
                + self.first(scene_now_patches.repeat(1, 2, 1)),
                self.painter.wrist_in(wrist_held),
            ],
            dim=1,
        )
        painter_code = self.painter.time(
            torch.cat([like.new_full((size, 1), 1), like.new_full((size, 1), 1)], dim=1)
        )
        text_words = self.words(text)  # model.wm:24
        painter_after_4_held = self.run_painter_to_4(
            painter, painter_code, text_words, Videos(((2, 3, 3), (3, 3, 3)), ((0,), (0, 1)))
        )
        for now, then in descending(steps or 3):
            action_time = like.new_full((size, 1), now)
            doer = self.doer.action_in(action)
            doer_code = Runs(self.doer.time(action_time), (4,))
            doer_out = self.run_doer(doer, doer_code, painter_after_4_held.detach())
            action_velocity = self.doer.action_out(doer_out)  # model.wm:73
            action = action + (then - now) * action_velocity
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_imagine(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future, wrist given scene.now, text (exact) (model.wm:86).

        action.future: deleted exactly
        """
        scene = samples(batch, "scene", 1, 3, (3, 12, 12), "model.wm:4")
        scene = 2 * scene - 1
        text = whole(batch, "text", (8,), "model.wm:15")
        like = next(self.parameters())
        size = len(scene)

        # scene.future and wrist.future by diffusion (model.wm:64)
        scene_future = normal((size, 18, 48), like, generator)
        wrist = normal((size, 27, 48), like, generator)
        text_words = self.words(text)  # model.wm:24
        scene_now_patches = patchify(scene, 4, 4)  # model.wm:30
        first = self.first(scene_now_patches.repeat(1, 2, 1))
        for now, then in descending(steps or 2):
            scene_future_time = like.new_full((size, 1), now)
            wrist_time = like.new_full((size, 1), now)
            painter = torch.cat(
                [self.painter.scene_future_in(scene_future) + first, self.painter.wrist_in(wrist)],
                dim=1,
            )
            painter_code = self.painter.time(torch.cat([scene_future_time, wrist_time], dim=1))
            painter_out = self.run_painter(
                painter, painter_code, text_words, Videos(((2, 3, 3), (3, 3, 3)), ((0,), (0, 1)))
            )
            scene_future_ends = ends_from_v(
                scene_future,
                self.painter.scene_future_out(painter_out[:, 0:18]),
                like.new_full((1, 1, 1), now),
            )  # model.wm:64
            scene_future = noised(
                scene_future_ends[0], scene_future_ends[1], like.new_full((1, 1, 1), then)
            )
            wrist_ends = ends_from_v(
                wrist, self.painter.wrist_out(painter_out[:, 18:45]), like.new_full((1, 1, 1), now)
            )  # model.wm:64
            wrist = noised(wrist_ends[0], wrist_ends[1], like.new_full((1, 1, 1), then))
        scene_future_samples = unpatchify(scene_future, (2, 3, 12, 12), 4, 4)
        wrist_samples = unpatchify(wrist, (3, 3, 12, 12), 4, 4)
        return {
            "scene": ((scene_future_samples + 1) / 2).clamp(0, 1),
            "wrist": ((wrist_samples + 1) / 2).clamp(0, 1),
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
                "imagine": self.query_imagine,
                "passive_world_model": self.query_imagine,
                "passive": self.query_imagine,
            },
        )(several(batch, draws), generator, steps)
