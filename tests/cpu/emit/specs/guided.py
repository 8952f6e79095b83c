"""Guided: p(scene'|o,l) p(a|o,l) p(reward'|l).

spec sha256 e7ba5a3022c44066dda67da2e4bc092c4433e5dd2bdf4676c0c1db23bb226da4
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type        rate   segments  batch
text    language 6  -      whole 1   [B, 6]
state   proprio 3   10 Hz  now 1     [B, 1, 3]
scene   vector 4    10 Hz  future 2  [B, 2, 4]
action  action 2    10 Hz  future 4  [B, 4, 2]
reward  value 1     10 Hz  future 1  [B, 1, 1]

trunk   kind  blocks  width  heads  tokens
policy  dit   2       32     2x16   state.now:1 scene.future:2 action.future:4
judge   dit   1       32     2x16   reward.future:1

query    answer       steps              sought | given
policy   approximate  action 3 reward 1  action, reward | state, text
imagine  approximate  scene 3            scene | state, text

101767 parameters

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


class Places(nn.Module):
    """Learned tokens that carry no data, as registers and placeholders: [B, T, W]."""

    def __init__(self, count: int, width: int):
        super().__init__()
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, batch_size: int) -> Tensor:
        return self.places.expand(batch_size, -1, -1)


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


def whole(batch: Mapping[str, Tensor], name: str, shape: tuple[int, ...], at: str) -> Tensor:
    """A stream without a time axis [B, *shape]."""
    if name not in batch:
        raise ValueError(f"the batch has no {name!r}, which {at} declares")
    x = batch[name]
    if x.shape[1:] != shape:
        wanted = ", ".join(("B", *map(str, shape)))
        raise ValueError(f"batch[{name!r}] is {list(x.shape)}, but {at} declares [{wanted}]")
    return x


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


def dropped(x: Tensor, share: float, generator: Generator | None) -> Tensor:
    """A share of the samples has zeros: no text, the mean of numbers, mid-grey."""
    draw = torch.rand(len(x), generator=generator, device=x.device)
    return x * (draw >= share).view(-1, *[1] * (x.ndim - 1))


Shape = tuple[int, ...]


def lognormal(
    shape: Shape, mean: float, deviation: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Noise levels of EDM: exp of a normal variable."""
    draw = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    return torch.exp(mean + deviation * draw)


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal noise with the dtype and device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


Level = Tensor | float


def scaled(x: Tensor, level: Level, deviation: float) -> Tensor:
    """What a trunk reads of a noisy x."""
    return x / (deviation**2 + level**2) ** 0.5


def told_level(level: Level) -> Level:
    """The time from 0 (clean) to 1 (pure noise) that stands for a level."""
    return level / (1 + level)


def uniform(
    shape: Shape, low: float, high: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Uniform between `low` and `high`."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return low + (high - low) * draw


def denoised(x: Tensor, output: Tensor, level: Level, deviation: float) -> Tensor:
    """The clean data that a head's output implies."""
    total = deviation**2 + level**2
    return deviation**2 / total * x + level * deviation / total**0.5 * output


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


def l1(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean absolute difference of each token [B, T]."""
    return (x_BTC - y_BTC).abs().mean(dim=-1)


def twice(x: Tensor) -> Tensor:
    """The batch beside itself."""
    return torch.cat([x, x])


def beside_nothing(x: Tensor) -> Tensor:
    """The batch beside zeros."""
    return torch.cat([x, torch.zeros_like(x)])


def normal_twice(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """The same noise for both halves of a batch of this shape."""
    return twice(normal((shape[0] // 2, *shape[1:]), like, generator))


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


def guided(output: Tensor, scale: float) -> Tensor:
    """Away from the answer without what is left out, `scale` times the difference; for both."""
    full, without = output.chunk(2)
    return twice(without + scale * (full - without))


def descending_levels(
    steps: int, low: float, high: float, stop: float = 0.0
) -> list[tuple[float, float]]:
    """(now, then) from `high` to `low` and then to `stop`, even in the seventh root."""
    last = max(low, stop)
    ends = high ** (1 / 7), last ** (1 / 7)
    count = steps if stop < low else steps + 1
    levels = [
        (ends[0] + (ends[1] - ends[0]) * step / max(count - 1, 1)) ** 7 for step in range(count)
    ]
    if stop < low:
        levels.append(stop)
    return list(pairwise(levels))


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


TRAIN_POLICY = Schedule.from_ranges(
    7, 7, [(0, 1, 0, 1), (1, 3, 0, 3), (3, 7, 0, 1), (3, 7, 3, 7)]
)  # model.wm:65


class Guided(nn.Module):
    """The model `guided`."""

    def __init__(self):
        super().__init__()

        # stream state, normalised by zscore (model.wm:8)
        self.register_buffer("state_mean", torch.zeros(3))
        self.register_buffer("state_scale", torch.ones(3))

        # stream scene, normalised by zscore (model.wm:14)
        self.register_buffer("scene_mean", torch.zeros(4))
        self.register_buffer("scene_scale", torch.ones(4))

        # stream action, normalised by zscore (model.wm:19)
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_scale", torch.ones(2))

        # stream reward, normalised by zscore (model.wm:24)
        self.register_buffer("reward_mean", torch.zeros(1))
        self.register_buffer("reward_scale", torch.ones(1))

        # codec words: bytes (model.wm:29)
        self.words = BytesEncoder(6, 32, layers=0, heads=1, tokens=1)

        # trunk policy: dit, 2 blocks, width 32, 2 heads x 16 (model.wm:35)
        self.policy = nn.ModuleDict(
            dict(
                state_in=Tokens(3, 32, 1),
                scene_in=Tokens(4, 32, 2),
                action_in=Tokens(2, 32, 4),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(2)]
                ),
                norm=ModulatedNorm(32),
                scene_out=Head(32, 4),
                action_out=Head(32, 2),
            )
        )

        # trunk judge: dit, 1 blocks, width 32, 2 heads x 16 (model.wm:46)
        self.judge = nn.ModuleDict(
            dict(
                reward_in=Places(1, 32),
                time=TimeCode(32),
                blocks=nn.ModuleList(
                    [DiTBlock(32, Heads(32, 2, 2, 16), AdaLN(32, count=6), 128) for _ in range(1)]
                ),
                norm=ModulatedNorm(32),
                reward_out=Head(32, 1),
            )
        )

        # cross hear -> policy (model.wm:57)
        self.hear = nn.ModuleList([CrossAttention(32, 32, 2, 2, 16) for _ in range(2)])

        # cross weigh -> judge (model.wm:61)
        self.weigh = nn.ModuleList([CrossAttention(32, 32, 2, 2, 16) for _ in range(1)])

    def run_policy(
        self, policy: Tensor, code: Runs, hear: Tensor, schedule: Schedule | None
    ) -> Tensor:
        """The blocks of policy (model.wm:35)."""
        for depth, block in enumerate(self.policy.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(policy, modulation)
            mixed = attention(query, key, value, schedule)
            policy = block.merge(policy, mixed, modulation)
            policy = self.hear[depth](policy, hear)  # model.wm:57
            policy = block.feed(policy, modulation)
        return self.policy.norm(policy, code)

    def run_judge(self, judge: Tensor, code: Runs, weigh: Tensor) -> Tensor:
        """The blocks of judge (model.wm:46)."""
        for depth, block in enumerate(self.judge.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(judge, modulation)
            mixed = attention(query, key, value)
            judge = block.merge(judge, mixed, modulation)
            judge = self.weigh[depth](judge, weigh)  # model.wm:61
            judge = block.feed(judge, modulation)
        return self.judge.norm(judge, code)

    def remember_policy(
        self, policy: Tensor, told: Told, hear: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of policy that no step changes, block by block (model.wm:35)."""
        memory = []
        for depth, (block, modulation) in enumerate(
            zip(self.policy.blocks, told.blocks, strict=True)
        ):
            query, key, value = block.project(policy, modulation)
            memory.append((key, value))
            if depth == 1:
                break
            mixed = attention(query, key, value)
            policy = block.merge(policy, mixed, modulation)
            policy = self.hear[depth](policy, hear)  # model.wm:57
            policy = block.feed(policy, modulation)
        return memory

    def step_policy(
        self, policy: Tensor, told: Told, hear: Tensor, memory: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The blocks of policy, seeing `memory` and themselves (model.wm:35)."""
        for depth, (block, modulation, (kept_key, kept_value)) in enumerate(
            zip(self.policy.blocks, told.blocks, memory, strict=True)
        ):
            query, key, value = block.project(policy, modulation)
            mixed = attention(
                query, torch.cat([kept_key, key], dim=1), torch.cat([kept_value, value], dim=1)
            )
            policy = block.merge(policy, mixed, modulation)
            policy = self.hear[depth](policy, hear)  # model.wm:57
            policy = block.feed(policy, modulation)
        return self.policy.norm.modulate(policy, told.norm)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        text = whole(batch, "text", (6,), "model.wm:4")
        state = samples(batch, "state", 1, 1, (3,), "model.wm:8")
        state = (state - self.state_mean) / self.state_scale
        state = dropped(state, 0.5, generator)
        scene = samples(batch, "scene", 2, 2, (4,), "model.wm:14")
        scene = (scene - self.scene_mean) / self.scene_scale
        action = samples(batch, "action", 4, 4, (2,), "model.wm:19")
        action = (action - self.action_mean) / self.action_scale
        reward = samples(batch, "reward", 1, 1, (1,), "model.wm:24")
        reward = (reward - self.reward_mean) / self.reward_scale
        like = next(self.parameters())
        size = len(text)
        clean = like.new_zeros(size, 1)

        # ahead: scene.future by edm (model.wm:70)
        scene_level = lognormal((size, 1), -1.2, 1.2, like, generator)
        scene_noise = normal(scene.shape, like, generator)
        scene_noisy = scene + scene_level[..., None] * scene_noise
        scene_scaled = scaled(scene_noisy, scene_level[..., None], 0.5)
        scene_time = told_level(scene_level)

        # act: action.future by flow (model.wm:81)
        action_time = uniform((size, 1), 0, 1, like, generator)
        action_noise = normal(action.shape, like, generator)
        action_noisy = torch.lerp(action, action_noise, action_time[..., None])

        # worth: reward.future by regression (model.wm:90)

        # policy (model.wm:35)
        policy = torch.cat(
            [
                self.policy.state_in(state),
                self.policy.scene_in(scene_scaled),
                self.policy.action_in(action_noisy),
            ],
            dim=1,
        )
        policy_code = Runs(
            self.policy.time(torch.cat([clean, scene_time, action_time], dim=1)), (1, 2, 4)
        )
        text_words = self.words(text)  # model.wm:29
        policy_out = self.run_policy(policy, policy_code, text_words, TRAIN_POLICY)

        # judge (model.wm:46)
        judge = self.judge.reward_in(size)
        judge_code = Runs(self.judge.time(clean), (1,))
        judge_out = self.run_judge(judge, judge_code, text_words)

        # ahead: error (model.wm:70)
        scene_out = self.policy.scene_out(policy_out[:, 1:3])
        scene_denoised = denoised(scene_noisy, scene_out, scene_level[..., None], 0.5)
        scene_valid = validity(batch, "scene", size, 2)
        ahead = valid_mean(l2(scene_denoised, scene), scene_valid)

        # act: error (model.wm:81)
        action_out = self.policy.action_out(policy_out[:, 3:7])
        action_valid = validity(batch, "action", size, 4)
        act = valid_mean(l2(action_out, action_noise - action), action_valid)

        # worth: error (model.wm:90)
        reward_out = self.judge.reward_out(judge_out)
        reward_valid = validity(batch, "reward", size, 1)
        worth = valid_mean(l1(reward_out, reward), reward_valid)
        return {"loss": 0.5 * ahead + act + worth, "ahead": ahead, "act": act, "worth": worth}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action, reward given state, text (approximate) (model.wm:94).

        scene.future: deleted exactly
        """
        text = whole(batch, "text", (6,), "model.wm:4")
        text = twice(text)
        state = samples(batch, "state", 1, 1, (3,), "model.wm:8")
        state = (state - self.state_mean) / self.state_scale
        state = beside_nothing(state)
        like = next(self.parameters())
        size = len(text)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:81)
        action = normal_twice((size, 4, 2), like, generator)
        text_words = self.words(text)  # model.wm:29
        policy_state_now = self.policy.state_in(state)
        policy_given_told = folded(self.policy, [[0]], (1,))[0]
        memory = self.remember_policy(policy_state_now, policy_given_told, text_words)
        path = descending(steps or 3)
        policy_steps = folded(self.policy, [[now] for now, then in path], (4,))
        for (now, then), policy_told in zip(path, policy_steps, strict=True):
            policy = self.policy.action_in(action)
            policy_out = self.step_policy(policy, policy_told, text_words, memory)
            action_velocity = guided(self.policy.action_out(policy_out), 3)  # model.wm:81
            action = action + (then - now) * action_velocity

        # reward.future by regression (model.wm:90)
        judge = self.judge.reward_in(size)
        judge_code = Runs(self.judge.time(clean), (1,))
        judge_out = self.run_judge(judge, judge_code, text_words)
        reward = guided(self.judge.reward_out(judge_out), 1)
        return {
            "action": (action * self.action_scale + self.action_mean).chunk(2)[0],
            "reward": (reward * self.reward_scale + self.reward_mean).chunk(2)[0],
        }

    @torch.no_grad()
    def query_imagine(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene given state, text (approximate) (model.wm:99).

        action.future: deleted exactly
        reward.future: deleted exactly
        """
        text = whole(batch, "text", (6,), "model.wm:4")
        text = twice(text)
        state = samples(batch, "state", 1, 1, (3,), "model.wm:8")
        state = (state - self.state_mean) / self.state_scale
        state = beside_nothing(state)
        like = next(self.parameters())
        size = len(text)

        # scene.future by edm (model.wm:70)
        scene = 80 * normal_twice((size, 2, 4), like, generator)
        text_words = self.words(text)  # model.wm:29
        policy_state_now = self.policy.state_in(state)
        policy_given_told = folded(self.policy, [[0]], (1,))[0]
        memory = self.remember_policy(policy_state_now, policy_given_told, text_words)
        path = descending_levels(steps or 3, 0.002, 80)
        policy_steps = folded(self.policy, [[told_level(now)] for now, then in path], (2,))
        for (now, then), policy_told in zip(path, policy_steps, strict=True):
            scene_scaled = scaled(scene, now, 0.5)
            policy = self.policy.scene_in(scene_scaled)
            policy_out = self.step_policy(policy, policy_told, text_words, memory)
            scene = torch.lerp(
                denoised(scene, guided(self.policy.scene_out(policy_out), 2), now, 0.5).to(scene),
                scene,
                then / now,
            )  # model.wm:70
        return {"scene": (scene * self.scene_scale + self.scene_mean).chunk(2)[0]}

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
        return chosen(name, {"policy": self.query_policy, "imagine": self.query_imagine})(
            several(batch, draws), generator, steps
        )
