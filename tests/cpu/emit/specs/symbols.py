"""Symbols: p(a|o).

spec sha256 d85a5f0e1d7e3cafda75d224e927a6e9412cca4e1e214e6eecb8b538cbeb8134
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments  batch
scene   image 3x16x16  -      whole 1   [B, 3, 16, 16]
word    token 1        10 Hz  now 3     [B, 3, 1]
action  action 2       10 Hz  future 3  [B, 3, 2]

trunk  kind     blocks  width  heads  tokens
lm     decoder  2       32     4x8    scene:16 word.now:3 action.future:6

query   answer  steps     sought | given
policy  exact   action 6  action | scene, word

18616 parameters

B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim
F frames  N samples  C channels or features  R rows of codes  V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from wmdsl_kernels import Schedule, attention, rotated_heads


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


class Film(nn.Module):
    """Tokens [B, T, W] scaled and shifted by a pooled source [B, C]; starts as the identity."""

    def __init__(self, source_width: int, width: int):
        super().__init__()
        self.numbers = nn.Linear(source_width, 2 * width)
        nn.init.zeros_(self.numbers.weight)
        nn.init.zeros_(self.numbers.bias)

    def forward(self, x_BTW: Tensor, source_BC: Tensor) -> Tensor:
        scale, shift = self.numbers(source_BC)[:, None].chunk(2, dim=-1)
        return x_BTW * (1 + scale) + shift


def rotated(x_BTHK: Tensor, angles_TK: Tensor) -> Tensor:
    """The pairs (k, k + K / 2) of each head, turned by the angle of the token."""
    return rotated_heads(x_BTHK, angles_TK.cos(), angles_TK.sin())


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


def drawn(logits: Tensor, generator: Generator | None) -> Tensor:
    """An index from each distribution: logits [..., V] -> [...]."""
    shares = logits.softmax(dim=-1)
    draw = torch.multinomial(shares.flatten(0, -2), 1, generator=generator)
    return draw.view(shares.shape[:-1])


def from_bins(index_BT: Tensor, size: int, bins: int, low: float, high: float) -> Tensor:
    """Indices -> the middles of their bins [B, N, size]."""
    middles = low + (index_BT + 0.5) * ((high - low) / bins)
    return middles.unflatten(1, (-1, size))


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
    25,
    25,
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
    ],
)  # model.wm:38
POLICY_LM_GIVEN = Schedule.from_ranges(
    19,
    19,
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
    ],
)  # model.wm:38
POLICY_LM_STEP = Schedule.from_ranges(
    6,
    25,
    [(0, 1, 0, 20), (1, 2, 0, 21), (2, 3, 0, 22), (3, 4, 0, 23), (4, 5, 0, 24), (5, 6, 0, 25)],
)  # model.wm:38


class Symbols(nn.Module):
    """The model `symbols`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:13)
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_scale", torch.ones(2))

        # codec eyes: conv (model.wm:18)
        self.eyes = ConvGrid(3, (8, 8), (2, 2))

        # trunk lm: decoder, 2 blocks, width 32, 4 heads x 8 (model.wm:38)
        self.lm = nn.ModuleDict(
            dict(
                scene_in=nn.Linear(8, 32),
                word_in=nn.Embedding(11, 32),
                action_in=nn.Embedding(16, 32),
                blocks=nn.ModuleList(
                    [DecoderBlock(32, Heads(32, 4, 2, 8, bias=False), 48) for _ in range(2)]
                ),
                norm=nn.RMSNorm(32, eps=1e-06),
                action_out=Head(32, 16),
            )
        )
        self.register_buffer("lm_angles", angles_1d(25, 8), persistent=False)

        # condition glance by film (model.wm:47)
        self.glance = Film(8, 32)

    def run_lm(self, lm: Tensor, angles: Tensor, schedule: Schedule | None) -> Tensor:
        """The blocks of lm (model.wm:38)."""
        for block in self.lm.blocks:
            query, key, value = block.project(lm)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(query, key, value, schedule)
            lm = block.merge(lm, mixed)
            lm = block.feed(lm)
        return self.lm.norm(lm)

    def remember_lm(
        self, lm: Tensor, angles: Tensor, schedule: Schedule | None
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Keys and values of lm that no step changes, block by block (model.wm:38)."""
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
        """The blocks of lm, seeing `memory` and themselves (model.wm:38)."""
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
        scene = whole(batch, "scene", (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        word = samples(batch, "word", 3, 3, (1,), "model.wm:8")
        action = samples(batch, "action", 3, 3, (2,), "model.wm:13")
        action = (action - self.action_mean) / self.action_scale
        size = len(scene)

        # act: action.future by autoregressive (model.wm:48)

        # lm (model.wm:38)
        scene_eyes = self.eyes(scene[:, None])  # model.wm:18
        word_embed = word.flatten(1)  # model.wm:8
        action_digits = to_bins(action, 16, -2, 2)  # model.wm:31
        scene_eyes = self.eyes(scene[:, None])  # model.wm:18
        scene_look = scene_eyes.unflatten(1, (1, -1)).mean(dim=2)  # model.wm:26
        lm = self.glance(
            torch.cat(
                [
                    self.lm.scene_in(scene_eyes),
                    self.lm.word_in(word_embed),
                    self.lm.action_in(action_digits),
                ],
                dim=1,
            ),
            scene_look.mean(dim=1),
        )
        lm_out = self.run_lm(lm, self.lm_angles, TRAIN_LM)

        # act: error (model.wm:48)
        action_out = self.lm.action_out(lm_out[:, 18:24])
        action_valid = validity(batch, "action", size, 3)
        act = valid_mean(
            cross_entropy(action_out, action_digits)
            + 0.001 * action_out.logsumexp(dim=-1).square(),
            action_valid,
        )
        return {"loss": act, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene, word (exact) (model.wm:52)."""
        scene = whole(batch, "scene", (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        word = samples(batch, "word", 3, 3, (1,), "model.wm:8")
        like = next(self.parameters())
        size = len(scene)

        # action.future by autoregressive (model.wm:48)
        action = torch.full((size, 6), 0, device=like.device)
        scene_eyes = self.eyes(scene[:, None])  # model.wm:18
        scene_look = scene_eyes.unflatten(1, (1, -1)).mean(dim=2)  # model.wm:26
        scene_eyes = self.eyes(scene[:, None])  # model.wm:18
        word_embed = word.flatten(1)  # model.wm:8
        lm_given = torch.cat([self.lm.scene_in(scene_eyes), self.lm.word_in(word_embed)], dim=1)
        lm = self.glance(lm_given, scene_look.mean(dim=1))
        memory, lm_out_given = self.remember_lm(lm, self.lm_angles[0:19], POLICY_LM_GIVEN)
        for token in range(6):
            lm = self.glance(self.lm.action_in(action), scene_look.mean(dim=1))
            lm_out = self.step_lm(lm, self.lm_angles[19:25], memory, POLICY_LM_STEP)
            action_logits = self.lm.action_out(
                torch.cat([lm_out_given[:, 18:19], lm_out[:, 0:5]], dim=1)
            )
            action[:, token] = drawn(action_logits[:, token], generator)  # model.wm:48
        action_samples = from_bins(action, 2, 16, -2, 2)
        return {"action": action_samples * self.action_scale + self.action_mean}

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
        return chosen(name, {"policy": self.query_policy})(several(batch, draws), generator, steps)
