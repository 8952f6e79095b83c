"""MotFast: log-densities of p(a|o,l) p(o'|o,a,l).

spec sha256 c3695b434d6d71f50100bb56802b371b12aace8e6e336e4519bf59a336c0a4eb
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream       type           rate   segments         batch
corner       video 3x64x64  5 Hz   now 1, future 1  [B, 2, 3, 64, 64]
wrist        video 3x64x64  20 Hz  now 1            [B, 1, 3, 64, 64]
proprio      proprio 4      80 Hz  now 1            [B, 1, 4]
instruction  language 32    -      whole 1          [B, 32]
action       action 4       80 Hz  future 16        [B, 16, 4]

trunk  kind  blocks  width  heads  tokens
seer   dit   3       192    4x32   instruction:1 corner.now:4 wrist.now:4 corner.future:16
doer   dit   3       128    4x32   proprio.now:1 action.future:16

query         answer  steps                sought | given
policy        exact   action 5             action | corner.now, wrist, instruction, proprio
joint         exact   action 5 corner 5    action, corner.future | corner.now, wrist,
                                           instruction, proprio
imagine       exact   corner 10 action 10  corner.future | corner.now, wrist, instruction,
                                           proprio
controllable  exact   corner 10            corner.future | corner.now, wrist, instruction,
                                           proprio, action

3409220 parameters

B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim
F frames  N samples  C channels or features  R rows of codes  V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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


class ConvKeypoints(ConvGrid):
    """Frames -> `tokens` tokens per frame, from key points and the flattened half-size map.

    A key point is the mean place, in -1..1, under the softmax of its map; `shrunk` are the rows
    and columns of the half-size map.
    """

    def __init__(
        self,
        inputs: int,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        shrunk: tuple[int, int],
        points: int,
        tokens: int,
    ):
        super().__init__(inputs, channels, strides)
        self.tokens = tokens
        self.points = nn.Conv2d(channels[-1], points, kernel_size=1)
        self.shrink = nn.Sequential(
            nn.Conv2d(channels[-1], 16, kernel_size=3, stride=2, padding=1),
            nn.GroupNorm(8, 16),
            nn.SiLU(),
        )
        read = 2 * points + 16 * math.prod(shrunk)
        self.outward = nn.Linear(read, tokens * channels[-1])

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        maps = self.maps(x_BFCHW)
        points = self.points(maps)
        weight = points.flatten(2).softmax(dim=-1).view_as(points)
        rows = torch.linspace(-1, 1, maps.shape[2], dtype=maps.dtype, device=maps.device)
        columns = torch.linspace(-1, 1, maps.shape[3], dtype=maps.dtype, device=maps.device)
        row = (weight.sum(dim=3) * rows).sum(dim=2)
        column = (weight.sum(dim=2) * columns).sum(dim=2)
        read = torch.cat([row, column, self.shrink(maps).flatten(1)], dim=1)
        tokens = self.outward(read)
        return tokens.view(x_BFCHW.shape[0], x_BFCHW.shape[1] * self.tokens, -1)


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


def whole(batch: Mapping[str, Tensor], name: str, shape: tuple[int, ...], at: str) -> Tensor:
    """A stream without a time axis [B, *shape]."""
    if name not in batch:
        raise ValueError(f"the batch has no {name!r}, which {at} declares")
    x = batch[name]
    if x.shape[1:] != shape:
        wanted = ", ".join(("B", *map(str, shape)))
        raise ValueError(f"batch[{name!r}] is {list(x.shape)}, but {at} declares [{wanted}]")
    return x


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


def ascending(steps: int, start: float) -> list[tuple[float, float]]:
    """(now, then) of equal steps from `start` (data) to 1 (noise)."""
    times = [start + (1 - start) * step / steps for step in range(steps + 1)]
    return list(zip(times, times[1:], strict=False))


def exact_trace(field: Tensor, point: Tensor) -> Tensor:
    """The sum of d field / d point over all numbers of each sample [B]."""
    total = field.new_zeros(len(field))
    for number in range(field[0].numel()):
        chosen = torch.zeros_like(field).flatten(1)
        chosen[:, number] = 1
        (back,) = torch.autograd.grad(field, point, chosen.view_as(field), retain_graph=True)
        total = total + back.flatten(1)[:, number]
    return total


def random_signs(like: Tensor, generator: Generator | None) -> Tensor:
    """-1 or 1 with equal chances."""
    draw = torch.randint(0, 2, like.shape, generator=generator, device=like.device)
    return (2 * draw - 1).to(like.dtype)


def divergence(
    fields: list[Tensor], points: list[Tensor], probes: int | None, generator: Generator | None
) -> Tensor:
    """The trace of d fields / d points of each sample [B].

    Exact, with a backward pass for each number, where `probes` is None; else the mean over so many
    random signs (Hutchinson's estimate).
    """
    if probes is None:
        return sum(exact_trace(*pair) for pair in zip(fields, points, strict=True))
    total = 0
    for _ in range(probes):
        signs = [random_signs(field, generator) for field in fields]
        pulled = torch.autograd.grad(fields, points, signs, retain_graph=True)
        pairs = zip(pulled, signs, strict=True)
        total = total + sum((back * sign).flatten(1).sum(dim=1) for back, sign in pairs)
    return total / probes


def normal_log_density(x: Tensor, deviation: float | Tensor) -> Tensor:
    """That of a sample [B, ...] whose numbers are independent around 0: [B]."""
    deviation = torch.as_tensor(deviation, dtype=x.dtype, device=x.device)
    each = -0.5 * (x / deviation) ** 2 - deviation.log() - 0.5 * math.log(2 * math.pi)
    return each.flatten(1).sum(dim=1)


def rescaled(log_density: Tensor, numbers: int, factor: float) -> Tensor:
    """The log-density of data, from that of their `numbers` numbers times `factor`."""
    return log_density + numbers * math.log(factor)


def patchify(x_BFCHW: Tensor, height: int, width: int) -> Tensor:
    """Frames -> tokens [B, F * rows * columns, C * height * width]."""
    x = x_BFCHW.unflatten(4, (-1, width)).unflatten(3, (-1, height))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


JOINT_EXPERTS_STEP = Schedule.from_ranges(
    32, 42, [(0, 16, 0, 42), (16, 32, 0, 10), (16, 32, 26, 42)]
)  # model.wm:85
CONTROLLABLE_EXPERTS_GIVEN = Schedule.from_ranges(
    26, 26, [(0, 10, 0, 10), (10, 26, 0, 26)]
)  # model.wm:85


class MotFast(nn.Module):
    """The model `mot_fast`, asked how likely recorded answers are."""

    def __init__(self):
        super().__init__()

        # stream proprio, normalised by zscore (model.wm:17)
        self.register_buffer("proprio_mean", torch.zeros(4))
        self.register_buffer("proprio_scale", torch.ones(4))

        # stream action, normalised by zscore (model.wm:28)
        self.register_buffer("action_mean", torch.zeros(4))
        self.register_buffer("action_scale", torch.ones(4))

        # codec words: bytes (model.wm:34)
        self.words = BytesEncoder(32, 64, layers=1, heads=2, tokens=1)

        # codec eyes: conv (model.wm:40)
        self.eyes = ConvKeypoints(3, (48, 64), (4, 1), shrunk=(8, 8), points=32, tokens=4)

        # codec wrist_eyes: conv (model.wm:48)
        self.wrist_eyes = ConvKeypoints(3, (48, 64), (4, 1), shrunk=(8, 8), points=32, tokens=4)

        # trunk seer: dit, 3 blocks, width 192, 4 heads x 32 (model.wm:60)
        self.seer = nn.ModuleDict(
            dict(
                instruction_in=Tokens(64, 192, 1),
                corner_now_in=Tokens(64, 192, 4),
                wrist_in=Tokens(64, 192, 4),
                corner_future_in=Tokens(768, 192, 16),
                time=TimeCode(192),
                blocks=nn.ModuleList(
                    [
                        DiTBlock(192, Heads(192, 4, 4, 32), AdaLN(192, count=6), 384)
                        for _ in range(3)
                    ]
                ),
                norm=ModulatedNorm(192),
                corner_future_out=Head(192, 768),
            )
        )

        # trunk doer: dit, 3 blocks, width 128, 4 heads x 32 (model.wm:72)
        self.doer = nn.ModuleDict(
            dict(
                proprio_in=Tokens(4, 128, 1),
                action_in=Tokens(4, 128, 16),
                time=TimeCode(128),
                blocks=nn.ModuleList(
                    [
                        DiTBlock(128, Heads(128, 4, 4, 32), AdaLN(128, count=6), 256)
                        for _ in range(3)
                    ]
                ),
                norm=ModulatedNorm(128),
                action_out=Head(128, 4),
            )
        )

    def remember_experts(
        self,
        seer: Tensor,
        doer: Tensor,
        seer_told: Told,
        doer_told: Told,
        schedule: Schedule | None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of seer and doer that no step changes, block by block (model.wm:84)."""
        memory = []
        for depth, (seer_block, doer_block, seer_modulation, doer_modulation) in enumerate(
            zip(self.seer.blocks, self.doer.blocks, seer_told.blocks, doer_told.blocks, strict=True)
        ):
            seer_query, seer_key, seer_value = seer_block.project(seer, seer_modulation)
            doer_query, doer_key, doer_value = doer_block.project(doer, doer_modulation)
            key = torch.cat([seer_key, doer_key], dim=1)
            value = torch.cat([seer_value, doer_value], dim=1)
            memory.append((key, value))
            if depth == 2:
                break
            mixed = attention(torch.cat([seer_query, doer_query], dim=1), key, value, schedule)
            seer_mixed, doer_mixed = mixed.split([seer.shape[1], doer.shape[1]], dim=1)
            seer = seer_block.merge(seer, seer_mixed, seer_modulation)
            doer = doer_block.merge(doer, doer_mixed, doer_modulation)
            seer = seer_block.feed(seer, seer_modulation)
            doer = doer_block.feed(doer, doer_modulation)
        return memory

    def step_experts_doer(
        self, doer: Tensor, told: Told, memory: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The blocks of doer, seeing `memory` and themselves (model.wm:84)."""
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

    def step_experts(
        self,
        seer: Tensor,
        doer: Tensor,
        seer_told: Told,
        doer_told: Told,
        memory: list[tuple[Tensor, Tensor]],
        schedule: Schedule | None,
    ) -> tuple[Tensor, ...]:
        """The blocks of seer and doer, seeing `memory` and themselves (model.wm:84)."""
        for seer_block, doer_block, seer_modulation, doer_modulation, (kept_key, kept_value) in zip(
            self.seer.blocks,
            self.doer.blocks,
            seer_told.blocks,
            doer_told.blocks,
            memory,
            strict=True,
        ):
            seer_query, seer_key, seer_value = seer_block.project(seer, seer_modulation)
            doer_query, doer_key, doer_value = doer_block.project(doer, doer_modulation)
            mixed = attention(
                torch.cat([seer_query, doer_query], dim=1),
                torch.cat([kept_key, seer_key, doer_key], dim=1),
                torch.cat([kept_value, seer_value, doer_value], dim=1),
                schedule,
            )
            seer_mixed, doer_mixed = mixed.split([seer.shape[1], doer.shape[1]], dim=1)
            seer = seer_block.merge(seer, seer_mixed, seer_modulation)
            doer = doer_block.merge(doer, doer_mixed, doer_modulation)
            seer = seer_block.feed(seer, seer_modulation)
            doer = doer_block.feed(doer, doer_modulation)
        return (
            self.seer.norm.modulate(seer, seer_told.norm),
            self.doer.norm.modulate(doer, doer_told.norm),
        )

    def step_experts_seer(
        self, seer: Tensor, told: Told, memory: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The blocks of seer, seeing `memory` and themselves (model.wm:84)."""
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

    @torch.no_grad()
    def log_density_policy(
        self,
        batch: dict[str, Tensor],
        generator: Generator | None = None,
        steps: int | None = None,
        probes: int | None = None,
    ) -> dict[str, Tensor]:
        """action given corner.now, wrist, instruction, proprio (estimate) (model.wm:111).

        probability flow in 5 steps, the divergence of 64 numbers exact, of the data at noise
        level 0.01.
        """
        corner = samples(batch, "corner", 1, 2, (3, 64, 64), "model.wm:4")
        corner = 2 * corner - 1
        wrist = samples(batch, "wrist", 1, 1, (3, 64, 64), "model.wm:11")
        wrist = 2 * wrist - 1
        proprio = samples(batch, "proprio", 1, 1, (4,), "model.wm:17")
        proprio = (proprio - self.proprio_mean) / self.proprio_scale
        instruction = whole(batch, "instruction", (32,), "model.wm:23")
        action = samples(batch, "action", 16, 16, (4,), "model.wm:28")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(corner)

        # action.future by flow (model.wm:102)
        action_point = 0.99 * action
        instruction_words = self.words(instruction)  # model.wm:34
        corner_now_eyes = self.eyes(corner)  # model.wm:40
        wrist_eyes = self.wrist_eyes(wrist)  # model.wm:48
        seer_given = torch.cat(
            [
                self.seer.instruction_in(instruction_words),
                self.seer.corner_now_in(corner_now_eyes),
                self.seer.wrist_in(wrist_eyes),
            ],
            dim=1,
        )
        doer_proprio_now = self.doer.proprio_in(proprio)
        seer_given_told = folded(self.seer, [[0]], (9,))[0]
        doer_given_told = folded(self.doer, [[0]], (1,))[0]
        memory = self.remember_experts(
            seer_given, doer_proprio_now, seer_given_told, doer_given_told, None
        )
        log_density = like.new_zeros(size)
        path = ascending(steps or 5, 0.01)
        doer_steps = folded(self.doer, [[now] for now, then in path], (16,))
        doer_steps_ahead = folded(self.doer, [[(now + then) / 2] for now, then in path], (16,))
        for (now, then), doer_told, doer_told_ahead in zip(
            path, doer_steps, doer_steps_ahead, strict=True
        ):
            half = (now + then) / 2
            doer = self.doer.action_in(action_point)
            doer_out = self.step_experts_doer(doer, doer_told, memory)
            action_clean = self.doer.action_out(doer_out)  # model.wm:102
            action_slope = (action_point - action_clean) / now
            with torch.enable_grad():
                action_half = (action_point + (half - now) * action_slope).requires_grad_()
                doer = self.doer.action_in(action_half)
                doer_out = self.step_experts_doer(doer, doer_told_ahead, memory)
                action_clean = self.doer.action_out(doer_out)  # model.wm:102
                action_slope = (action_half - action_clean) / half
            trace = divergence([action_slope], [action_half], probes, generator)
            log_density = log_density + (then - now) * trace
            action_point = action_point + (then - now) * action_slope.detach()
        log_density = log_density + normal_log_density(action_point, 1)
        log_density = rescaled(log_density, 64, 0.99)
        log_density = log_density - 64 * self.action_scale.log().mean()
        return {"log_density": log_density}

    @torch.no_grad()
    def log_density_joint(
        self,
        batch: dict[str, Tensor],
        generator: Generator | None = None,
        steps: int | None = None,
        probes: int | None = 1,
    ) -> dict[str, Tensor]:
        """action, corner.future given corner.now, wrist, instruction, proprio (estimate)
        (model.wm:116).

        probability flow in 5 steps, the divergence of 12352 numbers estimated in a random
        direction, of the data at noise level 0.01.
        """
        corner = samples(batch, "corner", 2, 2, (3, 64, 64), "model.wm:4")
        corner = 2 * corner - 1
        corner_now, corner_future = corner.split([1, 1], dim=1)
        wrist = samples(batch, "wrist", 1, 1, (3, 64, 64), "model.wm:11")
        wrist = 2 * wrist - 1
        proprio = samples(batch, "proprio", 1, 1, (4,), "model.wm:17")
        proprio = (proprio - self.proprio_mean) / self.proprio_scale
        instruction = whole(batch, "instruction", (32,), "model.wm:23")
        action = samples(batch, "action", 16, 16, (4,), "model.wm:28")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(corner_now)

        # action.future and corner.future by flow (model.wm:102)
        action_point = 0.99 * action
        corner_future_patches = patchify(corner_future, 16, 16)  # model.wm:56
        corner_future_point = 0.99 * corner_future_patches
        instruction_words = self.words(instruction)  # model.wm:34
        corner_now_eyes = self.eyes(corner_now)  # model.wm:40
        wrist_eyes = self.wrist_eyes(wrist)  # model.wm:48
        seer_given = torch.cat(
            [
                self.seer.instruction_in(instruction_words),
                self.seer.corner_now_in(corner_now_eyes),
                self.seer.wrist_in(wrist_eyes),
            ],
            dim=1,
        )
        doer_proprio_now = self.doer.proprio_in(proprio)
        seer_given_told = folded(self.seer, [[0]], (9,))[0]
        doer_given_told = folded(self.doer, [[0]], (1,))[0]
        memory = self.remember_experts(
            seer_given, doer_proprio_now, seer_given_told, doer_given_told, None
        )
        log_density = like.new_zeros(size)
        path = ascending(steps or 5, 0.01)
        seer_steps = folded(self.seer, [[now] for now, then in path], (16,))
        doer_steps = folded(self.doer, [[now] for now, then in path], (16,))
        seer_steps_ahead = folded(self.seer, [[(now + then) / 2] for now, then in path], (16,))
        doer_steps_ahead = folded(self.doer, [[(now + then) / 2] for now, then in path], (16,))
        for (now, then), seer_told, doer_told, seer_told_ahead, doer_told_ahead in zip(
            path, seer_steps, doer_steps, seer_steps_ahead, doer_steps_ahead, strict=True
        ):
            half = (now + then) / 2
            seer = self.seer.corner_future_in(corner_future_point)
            doer = self.doer.action_in(action_point)
            seer_out, doer_out = self.step_experts(
                seer, doer, seer_told, doer_told, memory, JOINT_EXPERTS_STEP
            )
            action_clean = self.doer.action_out(doer_out)  # model.wm:102
            action_slope = (action_point - action_clean) / now
            corner_future_clean = self.seer.corner_future_out(seer_out)  # model.wm:93
            corner_future_slope = (corner_future_point - corner_future_clean) / now
            with torch.enable_grad():
                action_half = (action_point + (half - now) * action_slope).requires_grad_()
                corner_future_half = (
                    corner_future_point + (half - now) * corner_future_slope
                ).requires_grad_()
                seer = self.seer.corner_future_in(corner_future_half)
                doer = self.doer.action_in(action_half)
                seer_out, doer_out = self.step_experts(
                    seer, doer, seer_told_ahead, doer_told_ahead, memory, JOINT_EXPERTS_STEP
                )
                action_clean = self.doer.action_out(doer_out)  # model.wm:102
                action_slope = (action_half - action_clean) / half
                corner_future_clean = self.seer.corner_future_out(seer_out)  # model.wm:93
                corner_future_slope = (corner_future_half - corner_future_clean) / half
            trace = divergence(
                [action_slope, corner_future_slope],
                [action_half, corner_future_half],
                probes,
                generator,
            )
            log_density = log_density + (then - now) * trace
            action_point = action_point + (then - now) * action_slope.detach()
            corner_future_point = corner_future_point + (then - now) * corner_future_slope.detach()
        log_density = log_density + normal_log_density(action_point, 1)
        log_density = rescaled(log_density, 64, 0.99)
        log_density = log_density - 64 * self.action_scale.log().mean()
        log_density = log_density + normal_log_density(corner_future_point, 1)
        log_density = rescaled(log_density, 12288, 0.99)
        log_density = rescaled(log_density, 12288, 2)
        return {"log_density": log_density}

    @torch.no_grad()
    def log_density_controllable(
        self,
        batch: dict[str, Tensor],
        generator: Generator | None = None,
        steps: int | None = None,
        probes: int | None = 1,
    ) -> dict[str, Tensor]:
        """corner.future given corner.now, wrist, instruction, proprio, action (estimate)
        (model.wm:124).

        probability flow in 10 steps, the divergence of 12288 numbers estimated in a random
        direction, of the data at noise level 0.01.
        """
        corner = samples(batch, "corner", 2, 2, (3, 64, 64), "model.wm:4")
        corner = 2 * corner - 1
        corner_now, corner_future = corner.split([1, 1], dim=1)
        wrist = samples(batch, "wrist", 1, 1, (3, 64, 64), "model.wm:11")
        wrist = 2 * wrist - 1
        proprio = samples(batch, "proprio", 1, 1, (4,), "model.wm:17")
        proprio = (proprio - self.proprio_mean) / self.proprio_scale
        instruction = whole(batch, "instruction", (32,), "model.wm:23")
        action = samples(batch, "action", 16, 16, (4,), "model.wm:28")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(corner_now)

        # corner.future by flow (model.wm:93)
        corner_future_patches = patchify(corner_future, 16, 16)  # model.wm:56
        corner_future_point = 0.99 * corner_future_patches
        instruction_words = self.words(instruction)  # model.wm:34
        corner_now_eyes = self.eyes(corner_now)  # model.wm:40
        wrist_eyes = self.wrist_eyes(wrist)  # model.wm:48
        seer_given = torch.cat(
            [
                self.seer.instruction_in(instruction_words),
                self.seer.corner_now_in(corner_now_eyes),
                self.seer.wrist_in(wrist_eyes),
            ],
            dim=1,
        )
        doer_given = torch.cat([self.doer.proprio_in(proprio), self.doer.action_in(action)], dim=1)
        seer_given_told = folded(self.seer, [[0]], (9,))[0]
        doer_given_told = folded(self.doer, [[0]], (17,))[0]
        memory = self.remember_experts(
            seer_given, doer_given, seer_given_told, doer_given_told, CONTROLLABLE_EXPERTS_GIVEN
        )
        log_density = like.new_zeros(size)
        path = ascending(steps or 10, 0.01)
        seer_steps = folded(self.seer, [[now] for now, then in path], (16,))
        seer_steps_ahead = folded(self.seer, [[(now + then) / 2] for now, then in path], (16,))
        for (now, then), seer_told, seer_told_ahead in zip(
            path, seer_steps, seer_steps_ahead, strict=True
        ):
            half = (now + then) / 2
            seer = self.seer.corner_future_in(corner_future_point)
            seer_out = self.step_experts_seer(seer, seer_told, memory)
            corner_future_clean = self.seer.corner_future_out(seer_out)  # model.wm:93
            corner_future_slope = (corner_future_point - corner_future_clean) / now
            with torch.enable_grad():
                corner_future_half = (
                    corner_future_point + (half - now) * corner_future_slope
                ).requires_grad_()
                seer = self.seer.corner_future_in(corner_future_half)
                seer_out = self.step_experts_seer(seer, seer_told_ahead, memory)
                corner_future_clean = self.seer.corner_future_out(seer_out)  # model.wm:93
                corner_future_slope = (corner_future_half - corner_future_clean) / half
            trace = divergence([corner_future_slope], [corner_future_half], probes, generator)
            log_density = log_density + (then - now) * trace
            corner_future_point = corner_future_point + (then - now) * corner_future_slope.detach()
        log_density = log_density + normal_log_density(corner_future_point, 1)
        log_density = rescaled(log_density, 12288, 0.99)
        log_density = rescaled(log_density, 12288, 2)
        return {"log_density": log_density}
