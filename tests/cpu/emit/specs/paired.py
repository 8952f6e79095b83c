"""Paired: p(o'|o) p(a|o,o',l).

spec sha256 41f1a27a51f00c086751d0d9adb42db52f691ecd26ada2149e65e74f592c625f
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments         batch
scene   video 3x16x16  10 Hz  now 1, future 2  [B, 3, 3, 16, 16]
text    language 8     -      whole 1          [B, 8]
think   learned 3      -      whole 1          -
action  action 3       20 Hz  future 4         [B, 4, 3]

trunk    kind     blocks  width  heads  tokens
seer     dit      3       32     2x16   scene.now:4 scene.future:8 think:3
speaker  decoder  3       32     2x16   text:3
doer     dit      3       24     2x12   action.future:4

query    answer  steps     sought | given
policy   exact   action 3  action | scene.now, text
imagine  exact   scene 2   scene.future | scene.now

214371 parameters

B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim
F frames  N samples  C channels or features  R rows of codes  V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from wmdsl_kernels import Schedule, attention, gated_residual, modulated_norm


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


class Adapted(nn.Linear):
    """A frozen linear map and a trained product of low rank, which is zero at first."""

    def __init__(self, linear: nn.Linear, rank: int):
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.down = nn.Linear(linear.in_features, rank, bias=False)
        self.up = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return super().forward(x_BTC) + self.up(self.down(x_BTC))


def adapt(trunk: nn.ModuleDict, rank: int, trained: Collection[str]) -> None:
    """Freeze a trunk but for some of its parts; give each matrix of its blocks' attention and
    feed-forward an adapter."""
    for name, part in trunk.items():
        part.requires_grad_(name in trained)
    for block in trunk["blocks"]:
        for module in [*block.heads.modules(), *block.ffn.modules()]:
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear) and not isinstance(module, Adapted):
                    setattr(module, name, Adapted(child, rank))


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


class GatedCrossAttention(CrossAttention):
    """Cross-attention behind a gate per channel that starts closed."""

    def __init__(self, width: int, source_width: int, heads: int, kv_heads: int, head_dim: int):
        super().__init__(width, source_width, heads, kv_heads, head_dim)
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, x_BTW: Tensor, source_BSC: Tensor) -> Tensor:
        return x_BTW + self.gate * self.read(x_BTW, source_BSC)


class SourceEmbedding(nn.Sequential):
    """Source tokens [B, S, C] at the width of their reader."""

    def __init__(self, source_width: int, width: int):
        gelu = nn.GELU(approximate="tanh")
        super().__init__(nn.Linear(source_width, width), gelu, nn.Linear(width, width))


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


TRAIN_SEER = Schedule.from_ranges(
    15, 15, [(0, 4, 0, 4), (0, 4, 12, 15), (4, 12, 0, 15), (12, 15, 0, 4), (12, 15, 12, 15)]
)  # model.wm:81
TRAIN_SPEAKER = Schedule.from_ranges(
    3, 3, [(0, 1, 0, 1), (1, 2, 0, 2), (2, 3, 0, 3)]
)  # model.wm:45


class Paired(nn.Module):
    """The model `paired`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:18)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # codec words: bytes (model.wm:23)
        self.words = BytesEncoder(8, 32, layers=1, heads=1, tokens=3)

        # trunk seer: dit, 3 blocks, width 32, 2 heads x 16 (model.wm:33)
        self.seer = nn.ModuleDict(
            dict(
                scene_now_in=Tokens(192, 32, 4),
                scene_future_in=Tokens(192, 32, 8),
                think_in=Places(3, 32),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(3)]
                ),
                norm=ModulatedNorm(32),
                scene_future_out=Head(32, 192),
            )
        )
        adapt(self.seer, 4, trained=["scene_future_out", "think_in"])

        # trunk speaker: decoder, 3 blocks, width 32, 2 heads x 16 (model.wm:45)
        self.speaker = nn.ModuleDict(
            dict(
                text_in=Tokens(32, 32, 3),
                blocks=nn.ModuleList(
                    [DecoderBlock(32, Heads(32, 2, 1, 16, bias=False), 96) for _ in range(3)]
                ),
                norm=nn.RMSNorm(32, eps=1e-06),
            )
        )
        adapt(self.speaker, 2, trained=[])

        # trunk doer: dit, 3 blocks, width 24, 2 heads x 12 (model.wm:54)
        self.doer = nn.ModuleDict(
            dict(
                action_in=Tokens(3, 24, 4),
                time=TimeCode(24),
                blocks=nn.ModuleList(
                    [DiTBlock(24, Heads(24, 2, 2, 12), AdaLN(24, count=6), 96) for _ in range(3)]
                ),
                norm=ModulatedNorm(24),
                action_out=Head(24, 3),
            )
        )

        # cross look -> doer (model.wm:65)
        self.look = nn.ModuleList([CrossAttention(24, 32, 2, 2, 12) for _ in range(3)])

        # cross glance -> doer (model.wm:70)
        self.glance = nn.ModuleDict(
            {"0": GatedCrossAttention(24, 24, 2, 2, 12), "2": GatedCrossAttention(24, 24, 2, 2, 12)}
        )
        self.glance_embed = SourceEmbedding(32, 24)

        # cross hear -> doer (model.wm:76)
        self.hear = nn.ModuleDict({"1": CrossAttention(24, 32, 2, 2, 12)})

    def run_seer(
        self, seer: Tensor, code: Runs, schedule: Schedule | None
    ) -> tuple[Tensor, list[Tensor]]:
        """The blocks of seer (model.wm:33)."""
        seer_states = []
        for block in self.seer.blocks:
            modulation = block.modulation(code)
            query, key, value = block.project(seer, modulation)
            mixed = attention(query, key, value, schedule)
            seer = block.merge(seer, mixed, modulation)
            seer = block.feed(seer, modulation)
            seer_states.append(seer)
        return self.seer.norm(seer, code), seer_states

    def run_speaker(
        self, speaker: Tensor, schedule: Schedule | None
    ) -> tuple[Tensor, list[Tensor]]:
        """The blocks of speaker (model.wm:45)."""
        speaker_states = []
        for block in self.speaker.blocks:
            query, key, value = block.project(speaker)
            mixed = attention(query, key, value, schedule)
            speaker = block.merge(speaker, mixed)
            speaker = block.feed(speaker)
            speaker_states.append(speaker)
        return self.speaker.norm(speaker), speaker_states

    def run_doer(
        self, doer: Tensor, code: Runs, look: list[Tensor], glance: list[Tensor], hear: list[Tensor]
    ) -> Tensor:
        """The blocks of doer (model.wm:54)."""
        for depth, block in enumerate(self.doer.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(doer, modulation)
            mixed = attention(query, key, value)
            doer = block.merge(doer, mixed, modulation)
            doer = self.look[depth](doer, look[depth])  # model.wm:65
            if str(depth) in self.glance:
                doer = self.glance[str(depth)](doer, glance[depth])  # model.wm:70
            if str(depth) in self.hear:
                doer = self.hear[str(depth)](doer, hear[depth])  # model.wm:76
            doer = block.feed(doer, modulation)
        return self.doer.norm(doer, code)

    def run_speaker_to_2(self, speaker: Tensor, schedule: Schedule | None) -> list[Tensor]:
        """The blocks of speaker (model.wm:45)."""
        speaker_states = []
        for block in self.speaker.blocks[:2]:
            query, key, value = block.project(speaker)
            mixed = attention(query, key, value, schedule)
            speaker = block.merge(speaker, mixed)
            speaker = block.feed(speaker)
            speaker_states.append(speaker)
        return speaker_states

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 3, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([1, 2], dim=1)
        text = whole(batch, "text", (8,), "model.wm:10")
        action = samples(batch, "action", 4, 4, (3,), "model.wm:18")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene_now)
        clean = like.new_zeros(size, 1)

        # foresight: scene.future by flow (model.wm:86)
        scene_future_time = uniform((size, 1), 0, 1, like, generator)
        scene_future_patches = patchify(scene_future, 8, 8)  # model.wm:29
        scene_future_noise = normal(scene_future_patches.shape, like, generator)
        scene_future_noisy = torch.lerp(
            scene_future_patches, scene_future_noise, scene_future_time[..., None]
        )

        # act: action.future by flow (model.wm:95)
        action_time = uniform((size, 1), 0, 1, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = torch.lerp(action, action_noise, action_time[..., None])

        # seer (model.wm:33)
        scene_now_patches = patchify(scene_now, 8, 8)  # model.wm:29
        seer = torch.cat(
            [
                self.seer.scene_now_in(scene_now_patches),
                self.seer.scene_future_in(scene_future_noisy),
                self.seer.think_in(size),
            ],
            dim=1,
        )
        seer_code = Runs(
            self.seer.time(torch.cat([clean, scene_future_time, clean], dim=1)), (4, 8, 3)
        )
        seer_out, seer_states = self.run_seer(seer, seer_code, TRAIN_SEER)

        # speaker (model.wm:45)
        text_words = self.words(text)  # model.wm:23
        speaker = self.speaker.text_in(text_words)
        speaker_out, speaker_states = self.run_speaker(speaker, TRAIN_SPEAKER)

        # doer (model.wm:54)
        doer = self.doer.action_in(action_noisy)
        doer_code = Runs(self.doer.time(action_time), (4,))
        glance = [
            self.glance_embed(seer_states[0][:, 12:15]),
            self.glance_embed(seer_states[1][:, 12:15]),
            self.glance_embed(seer_states[2][:, 12:15]),
        ]
        doer_out = self.run_doer(doer, doer_code, seer_states, glance, speaker_states)

        # foresight: error (model.wm:86)
        scene_future_out = self.seer.scene_future_out(seer_out[:, 4:12])
        scene_valid = validity(batch, "scene", size, 3)
        foresight = valid_mean(
            l2(scene_future_out, scene_future_noise - scene_future_patches), scene_valid[:, 1:3]
        )

        # act: error (model.wm:95)
        action_out = self.doer.action_out(doer_out)
        action_valid = validity(batch, "action", size, 4)
        act = valid_mean(l2(action_out, action_noise - action), action_valid)
        return {"loss": foresight + act, "foresight": foresight, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene.now, text (exact) (model.wm:104).

        scene.future: pinned at noise
        speaker layer 2: head skipped
        """
        scene = samples(batch, "scene", 1, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        text = whole(batch, "text", (8,), "model.wm:10")
        like = next(self.parameters())
        size = len(scene)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:95)
        scene_future_pinned = normal((size, 8, 192), like, generator)
        action = normal((size, 4, 3), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:29
        seer = torch.cat(
            [
                self.seer.scene_now_in(scene_now_patches),
                self.seer.scene_future_in(scene_future_pinned),
                self.seer.think_in(size),
            ],
            dim=1,
        )
        seer_code = Runs(
            self.seer.time(torch.cat([clean, like.new_ones(size, 1), clean], dim=1)), (4, 8, 3)
        )
        seer_out, seer_states = self.run_seer(seer, seer_code, TRAIN_SEER)
        text_words = self.words(text)  # model.wm:23
        speaker = self.speaker.text_in(text_words)
        speaker_states = self.run_speaker_to_2(speaker, TRAIN_SPEAKER)
        glance = [
            self.glance_embed(seer_states[0][:, 12:15]),
            self.glance_embed(seer_states[1][:, 12:15]),
            self.glance_embed(seer_states[2][:, 12:15]),
        ]
        for now, then in descending(steps or 3):
            action_time = like.new_full((size, 1), now)
            doer = self.doer.action_in(action)
            doer_code = Runs(self.doer.time(action_time), (4,))
            doer_out = self.run_doer(doer, doer_code, seer_states, glance, speaker_states)
            action_velocity = self.doer.action_out(doer_out)  # model.wm:95
            action = action + (then - now) * action_velocity
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_imagine(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future given scene.now (exact) (model.wm:109).

        text: deleted exactly
        action.future: deleted exactly
        """
        scene = samples(batch, "scene", 1, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        like = next(self.parameters())
        size = len(scene)
        clean = like.new_zeros(size, 1)

        # scene.future by flow (model.wm:86)
        scene_future = normal((size, 8, 192), like, generator)
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:29
        seer_scene_now = self.seer.scene_now_in(scene_now_patches)
        seer_think = self.seer.think_in(size)
        for now, then in descending(steps or 2):
            scene_future_time = like.new_full((size, 1), now)
            seer = torch.cat(
                [seer_scene_now, self.seer.scene_future_in(scene_future), seer_think], dim=1
            )
            seer_code = Runs(
                self.seer.time(torch.cat([clean, scene_future_time, clean], dim=1)), (4, 8, 3)
            )
            seer_out, seer_states = self.run_seer(seer, seer_code, TRAIN_SEER)
            scene_future_velocity = self.seer.scene_future_out(seer_out[:, 4:12])  # model.wm:86
            scene_future = scene_future + (then - now) * scene_future_velocity
        scene_future_samples = unpatchify(scene_future, (2, 3, 16, 16), 8, 8)
        return {"scene": ((scene_future_samples + 1) / 2).clamp(0, 1)}

    @torch.no_grad()
    def query_inverse_dynamics(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene.now, text, scene.future (exact) (model.wm:3).

        speaker layer 2: head skipped
        """
        scene = samples(batch, "scene", 3, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([1, 2], dim=1)
        text = whole(batch, "text", (8,), "model.wm:10")
        like = next(self.parameters())
        size = len(scene_now)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:95)
        action = normal((size, 4, 3), like, generator)
        scene_now_patches = patchify(scene_now, 8, 8)  # model.wm:29
        scene_future_patches = patchify(scene_future, 8, 8)  # model.wm:29
        seer = torch.cat(
            [
                self.seer.scene_now_in(scene_now_patches),
                self.seer.scene_future_in(scene_future_patches),
                self.seer.think_in(size),
            ],
            dim=1,
        )
        seer_code = Runs(self.seer.time(clean), (15,))
        seer_out, seer_states = self.run_seer(seer, seer_code, TRAIN_SEER)
        text_words = self.words(text)  # model.wm:23
        speaker = self.speaker.text_in(text_words)
        speaker_states = self.run_speaker_to_2(speaker, TRAIN_SPEAKER)
        glance = [
            self.glance_embed(seer_states[0][:, 12:15]),
            self.glance_embed(seer_states[1][:, 12:15]),
            self.glance_embed(seer_states[2][:, 12:15]),
        ]
        for now, then in descending(steps or 3):
            action_time = like.new_full((size, 1), now)
            doer = self.doer.action_in(action)
            doer_code = Runs(self.doer.time(action_time), (4,))
            doer_out = self.run_doer(doer, doer_code, seer_states, glance, speaker_states)
            action_velocity = self.doer.action_out(doer_out)  # model.wm:95
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
                "imagine": self.query_imagine,
                "passive_world_model": self.query_imagine,
                "inverse_dynamics": self.query_inverse_dynamics,
                "passive": self.query_imagine,
                "inverse": self.query_inverse_dynamics,
            },
        )(several(batch, draws), generator, steps)
