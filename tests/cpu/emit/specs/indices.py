"""Indices: p(a|o,l) p(reach'|o) p(o'|o,a,l).

spec sha256 dbbe6cc26b878c23769a43da156e3ad6136e723713fd632e5a621a98ead6cfff
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments         batch
scene   video 3x16x16  10 Hz  now 1, future 1  [B, 2, 3, 16, 16]
body    proprio 2      10 Hz  now 1            [B, 1, 2]
text    language 10    -      whole 1          [B, 10]
action  action 3       10 Hz  future 2         [B, 2, 3]
reach   vector 3       10 Hz  future 2         [B, 2, 3]

trunk  kind     blocks  width  heads  tokens
lm     decoder  2       24     2x12   text:4 scene.now:6 action.future:12 scene.future:6
side   dit      2       24     2x12   body.now:4 reach.future:4

query   answer  steps      sought | given
policy  exact   action 12  action | scene.now, text
next    exact   scene 6    scene.future | scene.now, text, action
fill    exact   reach 2    reach | body

46375 parameters, pretrained codecs as published: their sizes below are stand-ins

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


class HashTokenizer(nn.Module):
    """Bytes (byte + 1, 0 pads) -> one index for each run of them [B, tokens]; 0 where all pad."""

    def __init__(self, tokens: int, vocabulary: int):
        super().__init__()
        self.tokens = tokens
        self.vocabulary = vocabulary

    def forward(self, bytes_BT: Tensor) -> Tensor:
        each = -(-bytes_BT.shape[1] // self.tokens)
        padded = functional.pad(bytes_BT, (0, self.tokens * each - bytes_BT.shape[1]))
        runs = padded.unflatten(1, (self.tokens, each))
        index = torch.zeros_like(runs[..., 0])
        for byte in runs.unbind(dim=2):
            index = (257 * index + byte) % (self.vocabulary - 1)
        return torch.where(runs.any(dim=2), index + 1, 0)


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


class Quantizer(nn.Module):
    """Frames [B, F, C, H, W] <-> indices [B, F * cells] of codes of root mean square 1.

    The latents of a frame are averaged to `grid` cells; each cell becomes its nearest code.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        widths: tuple[int, ...],
        strides: tuple[tuple[int, int, int], ...],
        codes: int,
        latent: tuple[int, int],
        grid: tuple[int, int],
    ):
        super().__init__()
        self.coder = Autoencoder(inputs, channels, widths, strides, reach=1, group=1)
        self.codes = nn.Parameter(torch.randn(codes, channels))
        self.latent = latent
        self.grid = grid

    def unit_codes(self) -> Tensor:
        """Codes of root mean square 1 [codes, channels]."""
        return functional.normalize(self.codes, dim=1) * self.codes.shape[1] ** 0.5

    def encode(self, x_BFCHW: Tensor) -> Tensor:
        """Frames -> indices."""
        latents = self.coder.encode(x_BFCHW).flatten(0, 1)
        cells = functional.adaptive_avg_pool2d(latents, self.grid).flatten(2).transpose(1, 2)
        index = (cells @ self.unit_codes().T).argmax(dim=2)
        return index.unflatten(0, (len(x_BFCHW), -1)).flatten(1)

    def decode(self, index_BT: Tensor) -> Tensor:
        """Indices -> frames."""
        cells = self.unit_codes()[index_BT].unflatten(1, (-1, *self.grid))
        frames = cells.shape[1]
        maps = functional.interpolate(cells.flatten(0, 1).permute(0, 3, 1, 2), self.latent)
        return self.coder.decode(maps.unflatten(0, (-1, frames)), frames)


class SwiGLU(nn.Module):
    """silu(gate x) * (value x), back to the width; no biases."""

    def __init__(self, width: int, ffn: int):
        super().__init__()
        self.gate = nn.Linear(width, ffn, bias=False)
        self.value = nn.Linear(width, ffn, bias=False)
        self.outward = nn.Linear(ffn, width, bias=False)

    def forward(self, x_BTW: Tensor) -> Tensor:
        return self.outward(functional.silu(self.gate(x_BTW)) * self.value(x_BTW))


class DecoderBlock(nn.Module):
    """Attention and SwiGLU behind RMS norms."""

    def __init__(self, width: int, heads: nn.Module, ffn: int):
        super().__init__()
        self.heads_norm = nn.RMSNorm(width, eps=1e-6)
        self.heads = heads
        self.ffn_norm = nn.RMSNorm(width, eps=1e-6)
        self.ffn = SwiGLU(width, ffn)

    def project(self, x_BTW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value."""
        return self.heads.project(self.heads_norm(x_BTW))

    def merge(self, x_BTW: Tensor, mixed_BTHK: Tensor) -> Tensor:
        """What attention mixed, added to the tokens."""
        return x_BTW + self.heads.merge(mixed_BTHK)

    def feed(self, x_BTW: Tensor) -> Tensor:
        """The feed-forward part."""
        return x_BTW + self.ffn(self.ffn_norm(x_BTW))


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


class Head(nn.Linear):
    """Linear read-out of tokens that starts at zero."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def angles_1d(count: int, head_dim: int) -> Tensor:
    """Angles [T, K / 2] of places 0, 1, 2, ..."""
    rates = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    return torch.outer(torch.arange(count), rates)


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


def to_frame(x_BNC: Tensor, tile: tuple[int, int, int]) -> Tensor:
    """All numbers of all steps, repeated until they fill one frame [B, 1, *tile]."""
    numbers = x_BNC.flatten(1)
    place = torch.arange(math.prod(tile), device=numbers.device) % numbers.shape[1]
    return numbers[:, place].unflatten(1, (1, *tile))


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal noise with the dtype and device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def marked(index_BT: Tensor, size: int, bins: int, markers: int) -> Tensor:
    """Indices with marker tokens around each step of `size`, the larger half in front of it."""
    steps = index_BT.unflatten(1, (-1, size))
    marks = torch.arange(bins, bins + markers, device=index_BT.device).expand(*steps.shape[:2], -1)
    behind = markers // 2
    ahead, after = marks.split([markers - behind, behind], dim=2)
    return torch.cat([ahead, steps, after], dim=2).flatten(1)


def to_bins(x_BNC: Tensor, bins: int, low: float, high: float) -> Tensor:
    """Numbers -> indices [B, N * C] of equal bins between `low` and `high`; ends are clamped."""
    index = ((x_BNC - low) * (bins / (high - low))).floor().clamp(0, bins - 1)
    return index.long().flatten(1)


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


def cross_entropy(logits_BTV: Tensor, index_BT: Tensor) -> Tensor:
    """Cross-entropy of each token [B, T]."""
    return functional.cross_entropy(logits_BTV.transpose(1, 2), index_BT, reduction="none")


def l2(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean squared difference of each token [B, T]."""
    return (x_BTC - y_BTC).square().mean(dim=-1)


def whole_groups(valid_BN: Tensor, groups: int) -> Tensor:
    """Which groups of samples are valid throughout [B, groups]; the first may lack samples."""
    each = -(-valid_BN.shape[1] // groups)
    missing = valid_BN[:, :1].expand(-1, groups * each - valid_BN.shape[1])
    return torch.cat([missing, valid_BN], dim=1).unflatten(1, (groups, each)).all(dim=2)


def drawn(logits: Tensor, generator: Generator | None) -> Tensor:
    """An index from each distribution: logits [..., V] -> [...]."""
    shares = logits.softmax(dim=-1)
    draw = torch.multinomial(shares.flatten(0, -2), 1, generator=generator)
    return draw.view(shares.shape[:-1])


def from_bins(index_BT: Tensor, size: int, bins: int, low: float, high: float) -> Tensor:
    """Indices -> the middles of their bins [B, N, size]."""
    middles = low + (index_BT + 0.5) * ((high - low) / bins)
    return middles.unflatten(1, (-1, size))


def unmarked(index_BT: Tensor, size: int, bins: int, markers: int) -> Tensor:
    """The bins between the markers; a marker that stands in their place becomes the last bin."""
    steps = index_BT.unflatten(1, (-1, size + markers))
    ahead = markers - markers // 2
    return steps[:, :, ahead : ahead + size].flatten(1).clamp(max=bins - 1)


def descending(steps: int, stop: float = 0.0) -> list[tuple[float, float]]:
    """(now, then) of equal steps from 1 (noise) to `stop`; 0 is clean."""
    times = [1 - (1 - stop) * step / steps for step in range(steps + 1)]
    return list(pairwise(times))


def from_frame(frame_B1CHW: Tensor, steps: int, size: int) -> Tensor:
    """The mean of the repeats of each number [B, steps, size]."""
    cells = frame_B1CHW.flatten(1)
    count, numbers = cells.shape[1], torch.arange(steps * size, device=cells.device)
    place = torch.arange(count, device=cells.device) % len(numbers)
    total = cells.new_zeros(len(cells), len(numbers)).index_add(1, place, cells)
    repeats = count // len(numbers) + (numbers < count % len(numbers)).long()
    return (total / repeats).unflatten(1, (steps, size))


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


TRAIN_LM = Schedule.from_ranges(
    28,
    28,
    [
        (0, 1, 0, 1),
        (1, 2, 0, 2),
        (2, 3, 0, 3),
        (3, 4, 0, 4),
        (4, 5, 0, 5),
        (5, 6, 0, 6),
        (6, 7, 0, 7),
        (7, 8, 0, 8),
        (8, 9, 0, 9),
        (9, 10, 0, 10),
        (10, 11, 0, 11),
        (11, 12, 0, 12),
        (12, 13, 0, 13),
        (13, 14, 0, 14),
        (14, 15, 0, 15),
        (15, 16, 0, 16),
        (16, 17, 0, 17),
        (17, 18, 0, 18),
        (18, 19, 0, 19),
        (19, 20, 0, 20),
        (20, 21, 0, 21),
        (21, 22, 0, 22),
        (22, 23, 0, 23),
        (23, 24, 0, 24),
        (24, 25, 0, 25),
        (25, 26, 0, 26),
        (26, 27, 0, 27),
        (27, 28, 0, 28),
    ],
)  # model.wm:54
POLICY_LM_GIVEN = Schedule.from_ranges(
    10,
    10,
    [
        (0, 1, 0, 1),
        (1, 2, 0, 2),
        (2, 3, 0, 3),
        (3, 4, 0, 4),
        (4, 5, 0, 5),
        (5, 6, 0, 6),
        (6, 7, 0, 7),
        (7, 8, 0, 8),
        (8, 9, 0, 9),
        (9, 10, 0, 10),
    ],
)  # model.wm:54
POLICY_LM_STEP = Schedule.from_ranges(
    12,
    22,
    [
        (0, 1, 0, 11),
        (1, 2, 0, 12),
        (2, 3, 0, 13),
        (3, 4, 0, 14),
        (4, 5, 0, 15),
        (5, 6, 0, 16),
        (6, 7, 0, 17),
        (7, 8, 0, 18),
        (8, 9, 0, 19),
        (9, 10, 0, 20),
        (10, 11, 0, 21),
        (11, 12, 0, 22),
    ],
)  # model.wm:54
NEXT_LM_GIVEN = Schedule.from_ranges(
    22,
    22,
    [
        (0, 1, 0, 1),
        (1, 2, 0, 2),
        (2, 3, 0, 3),
        (3, 4, 0, 4),
        (4, 5, 0, 5),
        (5, 6, 0, 6),
        (6, 7, 0, 7),
        (7, 8, 0, 8),
        (8, 9, 0, 9),
        (9, 10, 0, 10),
        (10, 11, 0, 11),
        (11, 12, 0, 12),
        (12, 13, 0, 13),
        (13, 14, 0, 14),
        (14, 15, 0, 15),
        (15, 16, 0, 16),
        (16, 17, 0, 17),
        (17, 18, 0, 18),
        (18, 19, 0, 19),
        (19, 20, 0, 20),
        (20, 21, 0, 21),
        (21, 22, 0, 22),
    ],
)  # model.wm:54
NEXT_LM_STEP = Schedule.from_ranges(
    6,
    28,
    [(0, 1, 0, 23), (1, 2, 0, 24), (2, 3, 0, 25), (3, 4, 0, 26), (4, 5, 0, 27), (5, 6, 0, 28)],
)  # model.wm:54


class Indices(nn.Module):
    """The model `indices`."""

    def __init__(self):
        super().__init__()

        # stream body, normalised by zscore (model.wm:10)
        self.register_buffer("body_mean", torch.zeros(2))
        self.register_buffer("body_scale", torch.ones(2))

        # stream action, normalised by zscore (model.wm:19)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # stream reach, normalised by zscore (model.wm:24)
        self.register_buffer("reach_mean", torch.zeros(3))
        self.register_buffer("reach_scale", torch.ones(3))

        # codec words: tokenizer (model.wm:29)
        self.words = HashTokenizer(4, 40)

        # codec book: vq (model.wm:35)
        self.book = Quantizer(
            3, 16, (16, 32), ((1, 2, 2), (1, 2, 2)), 12, latent=(4, 4), grid=(2, 3)
        ).requires_grad_(False)

        # trunk lm: decoder, 2 blocks, width 24, 2 heads x 12 (model.wm:54)
        self.lm = nn.ModuleDict(
            dict(
                text_in=nn.Embedding(40, 24),
                scene_now_in=nn.Embedding(12, 24),
                action_in=nn.Embedding(11, 24),
                scene_future_in=nn.Embedding(12, 24),
                blocks=nn.ModuleList(
                    [DecoderBlock(24, Heads(24, 2, 2, 12, bias=False), 64) for _ in range(2)]
                ),
                norm=nn.RMSNorm(24, eps=1e-06),
                action_out=Head(24, 11),
                scene_future_out=Head(24, 12),
            )
        )
        self.register_buffer("lm_angles", angles_1d(28, 12), persistent=False)

        # trunk side: dit, 2 blocks, width 24, 2 heads x 12 (model.wm:62)
        self.side = nn.ModuleDict(
            dict(
                body_in=nn.Linear(8, 24),
                reach_in=nn.Linear(8, 24),
                time=TimeCode(24),
                blocks=nn.ModuleList(
                    [DiTBlock(24, Heads(24, 2, 2, 12), AdaLN(24, count=6), 96) for _ in range(2)]
                ),
                norm=ModulatedNorm(24),
                reach_out=Head(24, 8),
            )
        )
        self.register_buffer(
            "side_angles", angles_3d([cells(0, 1, 2, 2), cells(0, 1, 2, 2)], 12), persistent=False
        )

    def run_lm(self, lm: Tensor, angles: Tensor, schedule: Schedule | None) -> Tensor:
        """The blocks of lm (model.wm:54)."""
        for block in self.lm.blocks:
            query, key, value = block.project(lm)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(query, key, value, schedule)
            lm = block.merge(lm, mixed)
            lm = block.feed(lm)
        return self.lm.norm(lm)

    def run_side(self, side: Tensor, code: Runs, angles: Tensor) -> Tensor:
        """The blocks of side (model.wm:62)."""
        for block in self.side.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(side, modulation)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(query, key, value)
            side = block.merge(side, mixed, modulation)
            side = block.feed(side, modulation)
        return self.side.norm(side, code)

    def remember_lm(
        self, lm: Tensor, angles: Tensor, schedule: Schedule | None
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Keys and values of lm that no step changes, block by block (model.wm:54)."""
        memory = []
        for block in self.lm.blocks:
            query, key, value = block.project(lm)
            query = rotated(query, angles)
            key = rotated(key, angles)
            memory.append((key, value))
            mixed = attention(query, key, value, schedule)
            lm = block.merge(lm, mixed)
            lm = block.feed(lm)
        return memory, self.lm.norm(lm)

    def step_lm(
        self,
        lm: Tensor,
        angles: Tensor,
        memory: list[tuple[Tensor, Tensor]],
        schedule: Schedule | None,
    ) -> Tensor:
        """The blocks of lm, seeing `memory` and themselves (model.wm:54)."""
        for block, (kept_key, kept_value) in zip(self.lm.blocks, memory, strict=True):
            query, key, value = block.project(lm)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(
                query,
                torch.cat([kept_key, key], dim=1),
                torch.cat([kept_value, value], dim=1),
                schedule,
            )
            lm = block.merge(lm, mixed)
            lm = block.feed(lm)
        return self.lm.norm(lm)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 2, 2, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([1, 1], dim=1)
        body = samples(batch, "body", 1, 1, (2,), "model.wm:10")
        body = (body - self.body_mean) / self.body_scale
        text = whole(batch, "text", (10,), "model.wm:15")
        action = samples(batch, "action", 2, 2, (3,), "model.wm:19")
        action = (action - self.action_mean) / self.action_scale
        reach = samples(batch, "reach", 2, 2, (3,), "model.wm:24")
        reach = (reach - self.reach_mean) / self.reach_scale
        like = next(self.parameters())
        size = len(scene_now)
        clean = like.new_zeros(size, 1)

        # next: scene.future by autoregressive (model.wm:73)

        # act: action.future by autoregressive (model.wm:77)

        # fill: reach.future by flow (model.wm:81)
        reach_time = uniform((size, 1), 0, 1, like, generator)
        reach_inject = patchify(to_frame(reach, (2, 4, 4)), 2, 2)  # model.wm:49
        reach_noise = normal(reach_inject.shape, like, generator)
        reach_noisy = torch.lerp(reach_inject, reach_noise, reach_time[..., None])

        # lm (model.wm:54)
        text_words = self.words(text)  # model.wm:29
        scene_now_book = self.book.encode(scene_now)  # model.wm:35
        action_bins = marked(to_bins(action, 8, -3, 3), 3, 8, 3)  # model.wm:42
        scene_future_book = self.book.encode(scene_future)  # model.wm:35
        lm = torch.cat(
            [
                self.lm.text_in(text_words),
                self.lm.scene_now_in(scene_now_book),
                self.lm.action_in(action_bins),
                self.lm.scene_future_in(scene_future_book),
            ],
            dim=1,
        )
        lm_out = self.run_lm(lm, self.lm_angles, TRAIN_LM)

        # side (model.wm:62)
        body_inject = patchify(to_frame(body, (2, 4, 4)), 2, 2)  # model.wm:49
        side = torch.cat([self.side.body_in(body_inject), self.side.reach_in(reach_noisy)], dim=1)
        side_code = Runs(self.side.time(torch.cat([clean, reach_time], dim=1)), (4, 4))
        side_out = self.run_side(side, side_code, self.side_angles)

        # next: error (model.wm:73)
        scene_future_out = self.lm.scene_future_out(lm_out[:, 21:27])
        scene_valid = validity(batch, "scene", size, 2)
        next_ = valid_mean(cross_entropy(scene_future_out, scene_future_book), scene_valid[:, 1:2])

        # act: error (model.wm:77)
        action_out = self.lm.action_out(lm_out[:, 9:21])
        action_valid = validity(batch, "action", size, 2)
        act = valid_mean(cross_entropy(action_out, action_bins), action_valid)

        # fill: error (model.wm:81)
        reach_out = self.side.reach_out(side_out[:, 4:8])
        reach_valid = validity(batch, "reach", size, 2)
        fill = valid_mean(l2(reach_out, reach_noise - reach_inject), whole_groups(reach_valid, 1))
        return {"loss": next_ + act + fill, "next": next_, "act": act, "fill": fill}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene.now, text (exact) (model.wm:90).

        scene.future: deleted exactly
        body.now: deleted exactly
        reach.future: deleted exactly
        """
        scene = samples(batch, "scene", 1, 2, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        text = whole(batch, "text", (10,), "model.wm:15")
        like = next(self.parameters())
        size = len(scene)

        # action.future by autoregressive (model.wm:77)
        action = torch.full((size, 12), 0, device=like.device)
        text_words = self.words(text)  # model.wm:29
        scene_now_book = self.book.encode(scene)  # model.wm:35
        lm_given = torch.cat(
            [self.lm.text_in(text_words), self.lm.scene_now_in(scene_now_book)], dim=1
        )
        memory, lm_out_given = self.remember_lm(lm_given, self.lm_angles[0:10], POLICY_LM_GIVEN)
        for token in range(12):
            lm = self.lm.action_in(action)
            lm_out = self.step_lm(lm, self.lm_angles[10:22], memory, POLICY_LM_STEP)
            action_logits = self.lm.action_out(
                torch.cat([lm_out_given[:, 9:10], lm_out[:, 0:11]], dim=1)
            )
            action[:, token] = drawn(action_logits[:, token], generator)  # model.wm:77
        action_samples = from_bins(unmarked(action, 3, 8, 3), 3, 8, -3, 3)
        return {"action": action_samples * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_next(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future given scene.now, text, action (exact) (model.wm:94).

        body.now: deleted exactly
        reach.future: deleted exactly
        """
        scene = samples(batch, "scene", 1, 2, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        text = whole(batch, "text", (10,), "model.wm:15")
        action = samples(batch, "action", 2, 2, (3,), "model.wm:19")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene)

        # scene.future by autoregressive (model.wm:73)
        scene_future = torch.full((size, 6), 0, device=like.device)
        text_words = self.words(text)  # model.wm:29
        scene_now_book = self.book.encode(scene)  # model.wm:35
        action_bins = marked(to_bins(action, 8, -3, 3), 3, 8, 3)  # model.wm:42
        lm_given = torch.cat(
            [
                self.lm.text_in(text_words),
                self.lm.scene_now_in(scene_now_book),
                self.lm.action_in(action_bins),
            ],
            dim=1,
        )
        memory, lm_out_given = self.remember_lm(lm_given, self.lm_angles[0:22], NEXT_LM_GIVEN)
        for token in range(6):
            lm = self.lm.scene_future_in(scene_future)
            lm_out = self.step_lm(lm, self.lm_angles[22:28], memory, NEXT_LM_STEP)
            scene_future_logits = self.lm.scene_future_out(
                torch.cat([lm_out_given[:, 21:22], lm_out[:, 0:5]], dim=1)
            )
            scene_future[:, token] = drawn(scene_future_logits[:, token], generator)  # model.wm:73
        scene_future_samples = self.book.decode(scene_future)
        return {"scene": ((scene_future_samples + 1) / 2).clamp(0, 1)}

    @torch.no_grad()
    def query_fill(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """reach given body (exact) (model.wm:98).

        text: deleted exactly
        scene.now: deleted exactly
        action.future: deleted exactly
        scene.future: deleted exactly
        """
        body = samples(batch, "body", 1, 1, (2,), "model.wm:10")
        body = (body - self.body_mean) / self.body_scale
        like = next(self.parameters())
        size = len(body)
        clean = like.new_zeros(size, 1)

        # reach.future by flow (model.wm:81)
        reach = normal((size, 4, 8), like, generator)
        body_inject = patchify(to_frame(body, (2, 4, 4)), 2, 2)  # model.wm:49
        side_body_now = self.side.body_in(body_inject)
        for now, then in descending(steps or 2):
            reach_time = like.new_full((size, 1), now)
            side = torch.cat([side_body_now, self.side.reach_in(reach)], dim=1)
            side_code = Runs(self.side.time(torch.cat([clean, reach_time], dim=1)), (4, 4))
            side_out = self.run_side(side, side_code, self.side_angles)
            reach_velocity = self.side.reach_out(side_out[:, 4:8])  # model.wm:81
            reach = reach + (then - now) * reach_velocity
        reach_samples = from_frame(unpatchify(reach, (1, 2, 4, 4), 2, 2), 2, 3)
        return {"reach": reach_samples * self.reach_scale + self.reach_mean}

    @torch.no_grad()
    def query_passive_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future given scene.now, body, text (exact) (model.wm:3).

        action.future: not optional
        body.now: deleted exactly
        reach.future: deleted exactly
        """
        scene = samples(batch, "scene", 1, 2, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        text = whole(batch, "text", (10,), "model.wm:15")
        like = next(self.parameters())
        size = len(scene)

        # action.future by autoregressive (model.wm:77)
        action = torch.full((size, 12), 0, device=like.device)
        text_words = self.words(text)  # model.wm:29
        scene_now_book = self.book.encode(scene)  # model.wm:35
        lm_given = torch.cat(
            [self.lm.text_in(text_words), self.lm.scene_now_in(scene_now_book)], dim=1
        )
        memory, lm_out_given = self.remember_lm(lm_given, self.lm_angles[0:10], POLICY_LM_GIVEN)
        for token in range(12):
            lm = self.lm.action_in(action)
            lm_out = self.step_lm(lm, self.lm_angles[10:22], memory, POLICY_LM_STEP)
            action_logits = self.lm.action_out(
                torch.cat([lm_out_given[:, 9:10], lm_out[:, 0:11]], dim=1)
            )
            action[:, token] = drawn(action_logits[:, token], generator)  # model.wm:77

        # scene.future by autoregressive (model.wm:73)
        scene_future = torch.full((size, 6), 0, device=like.device)
        lm_given_ = torch.cat(
            [
                self.lm.text_in(text_words),
                self.lm.scene_now_in(scene_now_book),
                self.lm.action_in(action),
            ],
            dim=1,
        )
        memory_, lm_out_given = self.remember_lm(lm_given_, self.lm_angles[0:22], NEXT_LM_GIVEN)
        for token in range(6):
            lm = self.lm.scene_future_in(scene_future)
            lm_out = self.step_lm(lm, self.lm_angles[22:28], memory_, NEXT_LM_STEP)
            scene_future_logits = self.lm.scene_future_out(
                torch.cat([lm_out_given[:, 21:22], lm_out[:, 0:5]], dim=1)
            )
            scene_future[:, token] = drawn(scene_future_logits[:, token], generator)  # model.wm:73
        scene_future_samples = self.book.decode(scene_future)
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
                "next": self.query_next,
                "fill": self.query_fill,
                "passive_world_model": self.query_passive_world_model,
                "controllable_world_model": self.query_next,
                "passive": self.query_passive_world_model,
                "controllable": self.query_next,
            },
        )(several(batch, draws), generator, steps)
