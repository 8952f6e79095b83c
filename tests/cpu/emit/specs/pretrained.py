"""Pretrained: p(o'|o,l) p(a|o,l).

spec sha256 217483f90a2f3fc6ec1f69bed4987ae0dd3f4c793d7849bac0fed6195b3d06b2
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments         batch
scene   video 3x16x16  10 Hz  now 3, future 4  [B, 7, 3, 16, 16]
wrist   video 3x16x16  10 Hz  now 2, future 2  [B, 4, 3, 16, 16]
text    language 12    -      whole 1          [B, 12]
action  action 3       10 Hz  future 4         [B, 4, 3]

trunk  kind  blocks  width  heads  tokens
seer   dit   2       24     2x12   scene.now:8 scene.future:8 wrist.now:4 wrist.future:4
doer   dit   2       16     2x8    text:3 action.future:4

query    answer  steps            sought | given
policy   exact   action 2         action | scene.now, text
passive  exact   scene 2 wrist 2  scene.future, wrist.future | scene.now, wrist.now, text

56211 parameters, pretrained codecs as published: their sizes below are stand-ins

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


class CausalConv(nn.Conv3d):
    """Convolution over frames and cells that sees no later frame: each side shrinks by its stride.

    The kernel reaches over `reach` frames and 3 x 3 cells, or over its stride where that is more.
    """

    def __init__(
        self, inputs: int, outputs: int, reach: int, strides: tuple[int, int, int] = (1, 1, 1)
    ):
        kernel = [max(least, stride) for least, stride in zip((reach, 3, 3), strides, strict=True)]
        super().__init__(inputs, outputs, kernel, strides)
        time, *sides = (size - stride for size, stride in zip(kernel, strides, strict=True))
        self.around = [part for side in sides[::-1] for part in ((side + 1) // 2, side // 2)]
        self.around += [time, 0]

    def forward(self, x_BCFHW: Tensor) -> Tensor:
        return super().forward(functional.pad(x_BCFHW, self.around))


class Larger(nn.Module):
    """Every cell repeated along each axis."""

    def __init__(self, strides: tuple[int, int, int]):
        super().__init__()
        self.strides = strides

    def forward(self, x_BCFHW: Tensor) -> Tensor:
        for axis, times in enumerate(self.strides, start=2):
            x_BCFHW = x_BCFHW.repeat_interleave(times, dim=axis)
        return x_BCFHW


def unit_cells(x_BCFHW: Tensor) -> Tensor:
    """Cells whose channels have root mean square 1."""
    return functional.normalize(x_BCFHW, dim=1) * x_BCFHW.shape[1] ** 0.5


class Residual(nn.Module):
    """x + convolution of its cells, each brought to root mean square 1 over its channels."""

    def __init__(self, channels: int, reach: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1, 1))
        self.layer = CausalConv(channels, channels, reach)

    def forward(self, x_BCFHW: Tensor) -> Tensor:
        return x_BCFHW + self.layer(functional.silu(self.scale * unit_cells(x_BCFHW)))


def full_groups(x_BFCHW: Tensor, group: int) -> Tensor:
    """The frames with the first one repeated until they are a multiple of `group`."""
    missing = -x_BFCHW.shape[1] % group
    return torch.cat([x_BFCHW[:, :1].expand(-1, missing, -1, -1, -1), x_BFCHW], dim=1)


class Autoencoder(nn.Module):
    """Frames [B, F, C, H, W] <-> latents [B, T, channels, rows, columns] of root mean square 1.

    Latents are data, to which noise is added: they are as wide as the frames, under autocast too.

    `widths` and `strides` are those of each stage.  Frames come in groups of `group`; where the
    first group is not full, its first frame is repeated, so that one frame alone is a group too.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        widths: tuple[int, ...],
        strides: tuple[tuple[int, int, int], ...],
        reach: int,
        group: int,
    ):
        super().__init__()
        self.group = group
        down, up, before = [], [], inputs
        for width, stride in zip(widths, strides, strict=True):
            down += [CausalConv(before, width, reach, stride), Residual(width, reach)]
            up = [Residual(width, reach), Larger(stride), CausalConv(width, before, reach), *up]
            before = width
        self.encoder = nn.Sequential(*down, CausalConv(before, channels, reach))
        self.decoder = nn.Sequential(CausalConv(channels, before, reach), *up)

    def encode(self, x_BFCHW: Tensor) -> Tensor:
        """Frames -> latents; no latent sees a later frame."""
        x = full_groups(x_BFCHW, self.group).transpose(1, 2)
        return unit_cells(self.encoder(x).to(x)).transpose(1, 2)

    def decode(self, latents_BTCHW: Tensor, frames: int) -> Tensor:
        """Latents -> the last `frames` of the frames that they stand for."""
        frames_BCTHW = self.decoder(latents_BTCHW.transpose(1, 2)).to(latents_BTCHW)
        return frames_BCTHW.transpose(1, 2)[:, -frames:]


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


class FrameEncoder(nn.Module):
    """Frames [B, F, C, H, W] -> maps [B, T, W, rows, columns]; a cell is time x rows x columns.

    With `groups` 1 each group of frames is encoded alone, else all of up to `groups` as one clip.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        cell: tuple[int, int, int],
        grid: tuple[int, int],
        groups: int,
        layers: int,
        heads: int,
    ):
        super().__init__()
        self.cells = nn.Conv3d(inputs, width, cell, cell)
        self.places = nn.Parameter(0.02 * torch.randn(groups, grid[0] * grid[1], width))
        self.blocks = nn.ModuleList(
            [
                ViTBlock(width, Heads(width, heads, heads, width // heads), 4 * width)
                for _ in range(layers)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.grid = grid

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        frames = full_groups(x_BFCHW, self.cells.stride[0]).transpose(1, 2)
        cells_BTSW = self.cells(frames).flatten(3).permute(0, 2, 3, 1)
        count = cells_BTSW.shape[1]
        if len(self.places) == 1:
            x = (cells_BTSW + self.places).flatten(0, 1)
        else:
            x = (cells_BTSW + self.places[:count]).flatten(1, 2)
        for block in self.blocks:
            x = block.feed(block.merge(x, attention(*block.project(x))))
        maps = self.norm(x).reshape(cells_BTSW.shape).transpose(2, 3)
        return maps.unflatten(3, self.grid)


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


class Tokens(nn.Module):
    """Features [B, T, C] -> tokens [B, T, W], with a learned place for each token."""

    def __init__(self, features: int, width: int, count: int):
        super().__init__()
        self.projection = nn.Linear(features, width)
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.projection(x_BTC) + self.places


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


def shared_out(maps_BTWHW: Tensor, tokens: int) -> Tensor:
    """Maps -> `tokens` tokens for each group, the means of runs of cells [B, T * tokens, W]."""
    cells = maps_BTWHW.flatten(3).flatten(0, 1)
    runs = functional.adaptive_avg_pool1d(cells, tokens).transpose(1, 2)
    return runs.unflatten(0, maps_BTWHW.shape[:2]).flatten(1, 2)


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


def whole_groups(valid_BN: Tensor, groups: int) -> Tensor:
    """Which groups of samples are valid throughout [B, groups]; the first may lack samples."""
    each = -(-valid_BN.shape[1] // groups)
    missing = valid_BN[:, :1].expand(-1, groups * each - valid_BN.shape[1])
    return torch.cat([missing, valid_BN], dim=1).unflatten(1, (groups, each)).all(dim=2)


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


class Pretrained(nn.Module):
    """The model `pretrained`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:20)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # codec vae: vae (model.wm:25)
        self.vae = Autoencoder(
            3, 3, (16, 32), ((1, 2, 2), (2, 2, 2)), reach=3, group=2
        ).requires_grad_(False)

        # codec still: vae (model.wm:34)
        self.still = Autoencoder(
            3, 2, (16, 32, 64), ((1, 2, 2), (1, 2, 2), (1, 2, 2)), reach=1, group=2
        ).requires_grad_(False)

        # codec eyes: vit (model.wm:43)
        self.eyes = FrameEncoder(3, 32, (1, 8, 8), (2, 2), groups=1, layers=2, heads=1)

        # codec clip: vit (model.wm:52)
        self.clip = FrameEncoder(3, 8, (2, 8, 8), (2, 2), groups=2, layers=2, heads=1)

        # codec words: text_encoder (model.wm:60)
        self.words = BytesEncoder(12, 64, layers=2, heads=2, tokens=3)

        # codec phrase: text_encoder (model.wm:69)
        self.phrase = BytesEncoder(12, 16, layers=2, heads=1, tokens=2)

        # trunk seer: dit, 2 blocks, width 24, 2 heads x 12 (model.wm:83)
        self.seer = nn.ModuleDict(
            dict(
                scene_now_in=nn.Linear(12, 24),
                scene_future_in=nn.Linear(12, 24),
                wrist_now_in=nn.Linear(4, 24),
                wrist_future_in=nn.Linear(4, 24),
                time=TimeCode(24),
                blocks=nn.ModuleList(
                    [DiTBlock(24, Heads(24, 2, 2, 12), AdaLN(24, count=6), 96) for _ in range(2)]
                ),
                norm=ModulatedNorm(24),
                scene_future_out=Head(24, 12),
                wrist_future_out=Head(24, 4),
            )
        )
        self.register_buffer(
            "seer_angles",
            angles_3d(
                [cells(0, 2, 2, 2), cells(2, 2, 2, 2), cells(0, 1, 2, 2), cells(1, 1, 2, 2)], 12
            ),
            persistent=False,
        )

        # trunk doer: dit, 2 blocks, width 16, 2 heads x 8 (model.wm:94)
        self.doer = nn.ModuleDict(
            dict(
                text_in=Tokens(64, 16, 3),
                action_in=Tokens(3, 16, 4),
                time=TimeCode(16),
                blocks=nn.ModuleList(
                    [DiTBlock(16, Heads(16, 2, 2, 8), AdaLN(16, count=6), 64) for _ in range(2)]
                ),
                norm=ModulatedNorm(16),
                action_out=Head(16, 3),
            )
        )

        # cross look -> doer (model.wm:105)
        self.look = nn.ModuleList([CrossAttention(16, 32, 2, 2, 8) for _ in range(2)])

        # cross watch -> doer (model.wm:109)
        self.watch = nn.ModuleList([CrossAttention(16, 16, 2, 2, 8) for _ in range(2)])

        # cross hear -> seer (model.wm:113)
        self.hear = nn.ModuleList([CrossAttention(24, 16, 2, 2, 12) for _ in range(2)])

    def run_seer(self, seer: Tensor, code: Runs, angles: Tensor, hear: Tensor) -> Tensor:
        """The blocks of seer (model.wm:83)."""
        for depth, block in enumerate(self.seer.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(seer, modulation)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed, modulation)
            seer = self.hear[depth](seer, hear)  # model.wm:113
            seer = block.feed(seer, modulation)
        return self.seer.norm(seer, code)

    def run_doer(self, doer: Tensor, code: Runs, look: Tensor, watch: Tensor) -> Tensor:
        """The blocks of doer (model.wm:94)."""
        for depth, block in enumerate(self.doer.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(doer, modulation)
            mixed = attention(query, key, value)
            doer = block.merge(doer, mixed, modulation)
            doer = self.look[depth](doer, look)  # model.wm:105
            doer = self.watch[depth](doer, watch)  # model.wm:109
            doer = block.feed(doer, modulation)
        return self.doer.norm(doer, code)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 7, 7, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([3, 4], dim=1)
        wrist = samples(batch, "wrist", 4, 4, (3, 16, 16), "model.wm:10")
        wrist = 2 * wrist - 1
        wrist_now, wrist_future = wrist.split([2, 2], dim=1)
        text = whole(batch, "text", (12,), "model.wm:16")
        action = samples(batch, "action", 4, 4, (3,), "model.wm:20")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene_now)
        clean = like.new_zeros(size, 1)

        # foresight: scene.future by flow (model.wm:121)
        scene_future_time = uniform((size, 1), 0, 1, like, generator)
        scene_now_vae, scene_future_vae = patchify(
            self.vae.encode(torch.cat([scene_now, scene_future], dim=1)), 2, 2
        ).split([8, 8], dim=1)  # model.wm:25
        scene_future_noise = normal(scene_future_vae.shape, like, generator)
        scene_future_noisy = torch.lerp(
            scene_future_vae, scene_future_noise, scene_future_time[..., None]
        )

        # touch: wrist.future by flow (model.wm:130)
        wrist_future_time = uniform((size, 1), 0, 1, like, generator)
        wrist_future_still = patchify(
            self.still.encode(wrist_future).unflatten(1, (-1, 2)).flatten(2, 3), 1, 1
        )  # model.wm:34
        wrist_future_noise = normal(wrist_future_still.shape, like, generator)
        wrist_future_noisy = torch.lerp(
            wrist_future_still, wrist_future_noise, wrist_future_time[..., None]
        )

        # act: action.future by flow (model.wm:139)
        action_time = uniform((size, 1), 0, 1, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = torch.lerp(action, action_noise, action_time[..., None])

        # seer (model.wm:83)
        wrist_now_still = patchify(
            self.still.encode(wrist_now).unflatten(1, (-1, 2)).flatten(2, 3), 1, 1
        )  # model.wm:34
        seer = torch.cat(
            [
                self.seer.scene_now_in(scene_now_vae),
                self.seer.scene_future_in(scene_future_noisy),
                self.seer.wrist_now_in(wrist_now_still),
                self.seer.wrist_future_in(wrist_future_noisy),
            ],
            dim=1,
        )
        seer_code = Runs(
            self.seer.time(torch.cat([clean, scene_future_time, clean, wrist_future_time], dim=1)),
            (8, 8, 4, 4),
        )
        text_phrase = self.phrase(text)  # model.wm:69
        text_repeated = text_phrase.repeat_interleave(2, dim=1)  # model.wm:78
        seer_out = self.run_seer(seer, seer_code, self.seer_angles, text_repeated)

        # doer (model.wm:94)
        text_words = self.words(text)  # model.wm:60
        doer = torch.cat([self.doer.text_in(text_words), self.doer.action_in(action_noisy)], dim=1)
        doer_code = Runs(self.doer.time(torch.cat([clean, action_time], dim=1)), (3, 4))
        scene_now_eyes = shared_out(self.eyes(scene_now), 3)  # model.wm:43
        scene_now_clip = patchify(self.clip(scene_now), 1, 2)  # model.wm:52
        doer_out = self.run_doer(doer, doer_code, scene_now_eyes, scene_now_clip)

        # foresight: error (model.wm:121)
        scene_future_out = self.seer.scene_future_out(seer_out[:, 8:16])
        scene_valid = validity(batch, "scene", size, 7)
        foresight = valid_mean(
            l2(scene_future_out, scene_future_noise - scene_future_vae),
            whole_groups(scene_valid[:, 3:7], 2),
        )

        # touch: error (model.wm:130)
        wrist_future_out = self.seer.wrist_future_out(seer_out[:, 20:24])
        wrist_valid = validity(batch, "wrist", size, 4)
        touch = valid_mean(
            l2(wrist_future_out, wrist_future_noise - wrist_future_still),
            whole_groups(wrist_valid[:, 2:4], 1),
        )

        # act: error (model.wm:139)
        action_out = self.doer.action_out(doer_out[:, 3:7])
        action_valid = validity(batch, "action", size, 4)
        act = valid_mean(l2(action_out, action_noise - action), action_valid)
        return {"loss": foresight + touch + act, "foresight": foresight, "touch": touch, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene.now, text (exact) (model.wm:148).

        scene.now: deleted exactly
        scene.future: deleted exactly
        wrist.now: deleted exactly
        wrist.future: deleted exactly
        """
        scene = samples(batch, "scene", 3, 7, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        text = whole(batch, "text", (12,), "model.wm:16")
        like = next(self.parameters())
        size = len(scene)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:139)
        action = normal((size, 4, 3), like, generator)
        scene_now_eyes = shared_out(self.eyes(scene), 3)  # model.wm:43
        scene_now_clip = patchify(self.clip(scene), 1, 2)  # model.wm:52
        text_words = self.words(text)  # model.wm:60
        doer_text = self.doer.text_in(text_words)
        for now, then in descending(steps or 2):
            action_time = like.new_full((size, 1), now)
            doer = torch.cat([doer_text, self.doer.action_in(action)], dim=1)
            doer_code = Runs(self.doer.time(torch.cat([clean, action_time], dim=1)), (3, 4))
            doer_out = self.run_doer(doer, doer_code, scene_now_eyes, scene_now_clip)
            action_velocity = self.doer.action_out(doer_out[:, 3:7])  # model.wm:139
            action = action + (then - now) * action_velocity
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_passive(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future, wrist.future given scene.now, wrist.now, text (exact) (model.wm:152).

        text: deleted exactly
        action.future: deleted exactly
        """
        scene = samples(batch, "scene", 3, 7, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        wrist = samples(batch, "wrist", 2, 4, (3, 16, 16), "model.wm:10")
        wrist = 2 * wrist - 1
        text = whole(batch, "text", (12,), "model.wm:16")
        like = next(self.parameters())
        size = len(scene)
        clean = like.new_zeros(size, 1)

        # scene.future and wrist.future by flow (model.wm:121)
        scene_future = normal((size, 8, 12), like, generator)
        wrist_future = normal((size, 4, 4), like, generator)
        text_phrase = self.phrase(text)  # model.wm:69
        text_repeated = text_phrase.repeat_interleave(2, dim=1)  # model.wm:78
        scene_now_vae = patchify(self.vae.encode(scene), 2, 2)  # model.wm:25
        seer_scene_now = self.seer.scene_now_in(scene_now_vae)
        wrist_now_still = patchify(
            self.still.encode(wrist).unflatten(1, (-1, 2)).flatten(2, 3), 1, 1
        )  # model.wm:34
        seer_wrist_now = self.seer.wrist_now_in(wrist_now_still)
        for now, then in descending(steps or 2):
            scene_future_time = like.new_full((size, 1), now)
            wrist_future_time = like.new_full((size, 1), now)
            seer = torch.cat(
                [
                    seer_scene_now,
                    self.seer.scene_future_in(scene_future),
                    seer_wrist_now,
                    self.seer.wrist_future_in(wrist_future),
                ],
                dim=1,
            )
            seer_code = Runs(
                self.seer.time(
                    torch.cat([clean, scene_future_time, clean, wrist_future_time], dim=1)
                ),
                (8, 8, 4, 4),
            )
            seer_out = self.run_seer(seer, seer_code, self.seer_angles, text_repeated)
            scene_future_velocity = self.seer.scene_future_out(seer_out[:, 8:16])  # model.wm:121
            scene_future = scene_future + (then - now) * scene_future_velocity
            wrist_future_velocity = self.seer.wrist_future_out(seer_out[:, 20:24])  # model.wm:130
            wrist_future = wrist_future + (then - now) * wrist_future_velocity
        scene_future_samples = self.vae.decode(
            unpatchify(torch.cat([scene_now_vae, scene_future], dim=1), (4, 3, 4, 4), 2, 2), 4
        )
        wrist_future_samples = self.still.decode(
            unpatchify(wrist_future, (1, 4, 2, 2), 1, 1).unflatten(2, (2, -1)).flatten(1, 2), 2
        )
        return {
            "scene": ((scene_future_samples + 1) / 2).clamp(0, 1),
            "wrist": ((wrist_future_samples + 1) / 2).clamp(0, 1),
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
                "passive": self.query_passive,
                "passive_world_model": self.query_passive,
            },
        )(several(batch, draws), generator, steps)
