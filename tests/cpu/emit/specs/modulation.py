"""Modulation: p(o'|o,l) p(a|o,l).

spec sha256 4e11e6145e3708caede820bd5bc2bc645089ae0da74ee36368bb8fde9eadebef
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments         batch
scene   video 3x16x16  10 Hz  now 1, future 2  [B, 3, 3, 16, 16]
text    language 8     -      whole 1          [B, 8]
state   proprio 5      20 Hz  past 2, now 1    [B, 3, 5]
action  action 3       20 Hz  future 4         [B, 4, 3]

trunk  kind  blocks  width  heads  tokens
seer   dit   3       32     2x16   scene.now:4 scene.future:8
doer   dit   3       24     2x16   action.future:4

query    answer  steps     sought | given
policy   exact   action 3  action | scene.now, text, state.past, state.now
imagine  exact   scene 2   scene.future | scene.now, text, state.past, state.now

164146 parameters

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


class AdaLN(nn.Sequential):
    """So many numbers per channel of each row of codes; all are zero at first."""

    def __init__(self, width: int, count: int):
        super().__init__(nn.SiLU(), nn.Linear(width, count * width))
        nn.init.zeros_(self[1].weight)
        nn.init.zeros_(self[1].bias)

    def forward(self, code: Runs) -> Runs:
        return Runs(super().forward(code.rows), code.lengths)


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


class AdaLNTable(nn.Module):
    """A block's own offsets to the numbers that all blocks share; zero at first."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(count * width))

    def forward(self, shared: Runs) -> Runs:
        return Runs(shared.rows + self.table, shared.lengths)


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


class LowRankAdaLN(nn.Sequential):
    """AdaLN through a bottleneck of `rank` numbers."""

    def __init__(self, width: int, count: int, rank: int):
        super().__init__(nn.SiLU(), nn.Linear(width, rank), nn.Linear(rank, count * width))
        nn.init.zeros_(self[2].weight)
        nn.init.zeros_(self[2].bias)

    def forward(self, code: Runs) -> Runs:
        return Runs(super().forward(code.rows), code.lengths)


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


TRAIN_BOTH = Schedule.from_ranges(
    16, 16, [(0, 4, 0, 4), (4, 12, 0, 12), (12, 16, 0, 4), (12, 16, 12, 16)]
)  # model.wm:68


class Modulation(nn.Module):
    """The model `modulation`."""

    def __init__(self):
        super().__init__()

        # stream state, normalised by zscore (model.wm:14)
        self.register_buffer("state_mean", torch.zeros(5))
        self.register_buffer("state_scale", torch.ones(5))

        # stream action, normalised by zscore (model.wm:20)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # codec words: bytes (model.wm:25)
        self.words = BytesEncoder(8, 32, layers=1, heads=1, tokens=3)

        # trunk seer: dit, 3 blocks, width 32, 2 heads x 16 (model.wm:35)
        self.seer = nn.ModuleDict(
            dict(
                scene_now_in=Tokens(192, 32, 4),
                scene_future_in=Tokens(192, 32, 8),
                time=TimeCode(32),
                shared=AdaLN(32, count=6),
                blocks=nn.ModuleList(
                    [
                        DiTBlock(32, Heads(32, 2, 2, 16), AdaLNTable(32, count=6), 128)
                        for _ in range(3)
                    ]
                ),
                norm=ModulatedNorm(32),
                scene_future_out=Head(32, 192),
            )
        )

        # trunk doer: dit, 3 blocks, width 24, 2 heads x 16 (model.wm:46)
        self.doer = nn.ModuleDict(
            dict(
                action_in=Tokens(3, 24, 4),
                time=TimeCode(24),
                blocks=nn.ModuleList(
                    [
                        DiTBlock(24, Heads(24, 2, 2, 16), LowRankAdaLN(24, count=6, rank=5), 96)
                        for _ in range(3)
                    ]
                ),
                norm=ModulatedNorm(24),
                action_out=Head(24, 3),
            )
        )

        # cross hear -> seer, doer (model.wm:58)
        self.hear_seer = nn.ModuleList([CrossAttention(32, 32, 2, 2, 16) for _ in range(3)])
        self.hear_seer_embed = nn.ModuleList([SourceEmbedding(32, 32), SourceEmbedding(5, 32)])
        self.hear_doer = nn.ModuleList([CrossAttention(24, 24, 2, 2, 16) for _ in range(3)])
        self.hear_doer_embed = nn.ModuleList([SourceEmbedding(32, 24), SourceEmbedding(5, 24)])

        # cross last -> doer (model.wm:63)
        self.last = nn.ModuleDict({"2": GatedCrossAttention(24, 24, 2, 2, 16)})
        self.last_embed = SourceEmbedding(32, 24)

    def run_both(
        self,
        seer: Tensor,
        doer: Tensor,
        seer_code: Runs,
        doer_code: Runs,
        hear_seer: Tensor,
        hear_doer: Tensor,
        last: Tensor,
        schedule: Schedule | None,
    ) -> tuple[Tensor, ...]:
        """The blocks of seer and doer, attending as one sequence (model.wm:57)."""
        seer_shared = self.seer.shared(seer_code)
        for depth, (seer_block, doer_block) in enumerate(
            zip(self.seer.blocks, self.doer.blocks, strict=True)
        ):
            seer_modulation = seer_block.modulation(seer_shared)
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
            seer = self.hear_seer[depth](seer, hear_seer)  # model.wm:58
            doer = self.hear_doer[depth](doer, hear_doer)  # model.wm:58
            if str(depth) in self.last:
                doer = self.last[str(depth)](doer, last)  # model.wm:63
            seer = seer_block.feed(seer, seer_modulation)
            doer = doer_block.feed(doer, doer_modulation)
        return self.seer.norm(seer, seer_code), self.doer.norm(doer, doer_code)

    def remember_both_seer(
        self, seer: Tensor, told: Told, hear_seer: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of seer that no step changes, block by block (model.wm:57)."""
        memory = []
        for depth, (block, modulation) in enumerate(
            zip(self.seer.blocks, told.blocks, strict=True)
        ):
            query, key, value = block.project(seer, modulation)
            memory.append((key, value))
            if depth == 2:
                break
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed, modulation)
            seer = self.hear_seer[depth](seer, hear_seer)  # model.wm:58
            seer = block.feed(seer, modulation)
        return memory

    def step_both_doer(
        self,
        doer: Tensor,
        told: Told,
        hear_doer: Tensor,
        last: Tensor,
        memory: list[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """The blocks of doer, seeing `memory` and themselves (model.wm:57)."""
        for depth, (block, modulation, (kept_key, kept_value)) in enumerate(
            zip(self.doer.blocks, told.blocks, memory, strict=True)
        ):
            query, key, value = block.project(doer, modulation)
            mixed = attention(
                query, torch.cat([kept_key, key], dim=1), torch.cat([kept_value, value], dim=1)
            )
            doer = block.merge(doer, mixed, modulation)
            doer = self.hear_doer[depth](doer, hear_doer)  # model.wm:58
            if str(depth) in self.last:
                doer = self.last[str(depth)](doer, last)  # model.wm:63
            doer = block.feed(doer, modulation)
        return self.doer.norm.modulate(doer, told.norm)

    def step_both_seer(
        self, seer: Tensor, told: Told, hear_seer: Tensor, memory: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The blocks of seer, seeing `memory` and themselves (model.wm:57)."""
        for depth, (block, modulation, (kept_key, kept_value)) in enumerate(
            zip(self.seer.blocks, told.blocks, memory, strict=True)
        ):
            query, key, value = block.project(seer, modulation)
            mixed = attention(
                query, torch.cat([kept_key, key], dim=1), torch.cat([kept_value, value], dim=1)
            )
            seer = block.merge(seer, mixed, modulation)
            seer = self.hear_seer[depth](seer, hear_seer)  # model.wm:58
            seer = block.feed(seer, modulation)
        return self.seer.norm.modulate(seer, told.norm)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 3, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([1, 2], dim=1)
        text = whole(batch, "text", (8,), "model.wm:10")
        state = samples(batch, "state", 3, 3, (5,), "model.wm:14")
        state = (state - self.state_mean) / self.state_scale
        state_past, state_now = state.split([2, 1], dim=1)
        action = samples(batch, "action", 4, 4, (3,), "model.wm:20")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene_now)
        clean = like.new_zeros(size, 1)

        # foresight: scene.future by flow (model.wm:73)
        scene_future_time = uniform((size, 1), 0, 1, like, generator)
        scene_future_patches = patchify(scene_future, 8, 8)  # model.wm:31
        scene_future_noise = normal(scene_future_patches.shape, like, generator)
        scene_future_noisy = torch.lerp(
            scene_future_patches, scene_future_noise, scene_future_time[..., None]
        )

        # act: action.future by flow (model.wm:82)
        action_time = uniform((size, 1), 0, 1, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = torch.lerp(action, action_noise, action_time[..., None])

        # seer and doer (model.wm:57)
        scene_now_patches = patchify(scene_now, 8, 8)  # model.wm:31
        seer = torch.cat(
            [
                self.seer.scene_now_in(scene_now_patches),
                self.seer.scene_future_in(scene_future_noisy),
            ],
            dim=1,
        )
        doer = self.doer.action_in(action_noisy)
        seer_code = Runs(self.seer.time(torch.cat([clean, scene_future_time], dim=1)), (4, 8))
        doer_code = Runs(self.doer.time(action_time), (4,))
        text_words = self.words(text)  # model.wm:25
        hear_seer = torch.cat(
            [
                self.hear_seer_embed[0](text_words),
                self.hear_seer_embed[1](torch.cat([state_past, state_now], dim=1)),
            ],
            dim=1,
        )
        hear_doer = torch.cat(
            [
                self.hear_doer_embed[0](text_words),
                self.hear_doer_embed[1](torch.cat([state_past, state_now], dim=1)),
            ],
            dim=1,
        )
        last = self.last_embed(text_words)
        seer_out, doer_out = self.run_both(
            seer, doer, seer_code, doer_code, hear_seer, hear_doer, last, TRAIN_BOTH
        )

        # foresight: error (model.wm:73)
        scene_future_out = self.seer.scene_future_out(seer_out[:, 4:12])
        scene_valid = validity(batch, "scene", size, 3)
        foresight = valid_mean(
            l2(scene_future_out, scene_future_noise - scene_future_patches), scene_valid[:, 1:3]
        )

        # act: error (model.wm:82)
        action_out = self.doer.action_out(doer_out)
        action_valid = validity(batch, "action", size, 4)
        act = valid_mean(l2(action_out, action_noise - action), action_valid)
        return {"loss": foresight + act, "foresight": foresight, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene.now, text, state.past, state.now (exact) (model.wm:91).

        scene.future: deleted exactly
        """
        scene = samples(batch, "scene", 1, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        text = whole(batch, "text", (8,), "model.wm:10")
        state = samples(batch, "state", 3, 3, (5,), "model.wm:14")
        state = (state - self.state_mean) / self.state_scale
        state_past, state_now = state.split([2, 1], dim=1)
        like = next(self.parameters())
        size = len(scene)

        # action.future by flow (model.wm:82)
        action = normal((size, 4, 3), like, generator)
        text_words = self.words(text)  # model.wm:25
        hear_seer = torch.cat(
            [
                self.hear_seer_embed[0](text_words),
                self.hear_seer_embed[1](torch.cat([state_past, state_now], dim=1)),
            ],
            dim=1,
        )
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:31
        seer_scene_now = self.seer.scene_now_in(scene_now_patches)
        hear_doer = torch.cat(
            [
                self.hear_doer_embed[0](text_words),
                self.hear_doer_embed[1](torch.cat([state_past, state_now], dim=1)),
            ],
            dim=1,
        )
        last = self.last_embed(text_words)
        seer_given_told = folded(self.seer, [[0]], (4,))[0]
        memory = self.remember_both_seer(seer_scene_now, seer_given_told, hear_seer)
        path = descending(steps or 3)
        doer_steps = folded(self.doer, [[now] for now, then in path], (4,))
        for (now, then), doer_told in zip(path, doer_steps, strict=True):
            doer = self.doer.action_in(action)
            doer_out = self.step_both_doer(doer, doer_told, hear_doer, last, memory)
            action_velocity = self.doer.action_out(doer_out)  # model.wm:82
            action = action + (then - now) * action_velocity
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_imagine(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future given scene.now, text, state.past, state.now (exact) (model.wm:95).

        action.future: deleted exactly
        """
        scene = samples(batch, "scene", 1, 3, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        text = whole(batch, "text", (8,), "model.wm:10")
        state = samples(batch, "state", 3, 3, (5,), "model.wm:14")
        state = (state - self.state_mean) / self.state_scale
        state_past, state_now = state.split([2, 1], dim=1)
        like = next(self.parameters())
        size = len(scene)

        # scene.future by flow (model.wm:73)
        scene_future = normal((size, 8, 192), like, generator)
        text_words = self.words(text)  # model.wm:25
        hear_seer = torch.cat(
            [
                self.hear_seer_embed[0](text_words),
                self.hear_seer_embed[1](torch.cat([state_past, state_now], dim=1)),
            ],
            dim=1,
        )
        scene_now_patches = patchify(scene, 8, 8)  # model.wm:31
        seer_scene_now = self.seer.scene_now_in(scene_now_patches)
        seer_given_told = folded(self.seer, [[0]], (4,))[0]
        memory = self.remember_both_seer(seer_scene_now, seer_given_told, hear_seer)
        path = descending(steps or 2)
        seer_steps = folded(self.seer, [[now] for now, then in path], (8,))
        for (now, then), seer_told in zip(path, seer_steps, strict=True):
            seer = self.seer.scene_future_in(scene_future)
            seer_out = self.step_both_seer(seer, seer_told, hear_seer, memory)
            scene_future_velocity = self.seer.scene_future_out(seer_out)  # model.wm:73
            scene_future = scene_future + (then - now) * scene_future_velocity
        scene_future_samples = unpatchify(scene_future, (2, 3, 16, 16), 8, 8)
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
                "imagine": self.query_imagine,
                "passive_world_model": self.query_imagine,
                "passive": self.query_imagine,
            },
        )(several(batch, draws), generator, steps)
