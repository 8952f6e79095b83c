"""Masked: p(a|o).

spec sha256 eb3d94c665e49c26d1b66c59791cabab8b95902b39c31e55c833e65e0e1b70ce
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type      rate   segments  batch
state   vector 4  10 Hz  now 2     [B, 2, 4]
action  action 2  10 Hz  future 4  [B, 4, 2]

trunk   kind  blocks  width  heads  tokens
filler  vit   2       32     2x16   state.now:2 action.future:8

query   answer  steps     sought | given
policy  exact   action 3  action | state

26504 parameters

B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim
F frames  N samples  C channels or features  R rows of codes  V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from wmdsl_kernels import attention


class Tokens(nn.Module):
    """Features [B, T, C] -> tokens [B, T, W], with a learned place for each token."""

    def __init__(self, features: int, width: int, count: int):
        super().__init__()
        self.projection = nn.Linear(features, width)
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.projection(x_BTC) + self.places


class Symbols(nn.Module):
    """Indices [B, T] -> tokens [B, T, W] by a table, with a learned place for each token."""

    def __init__(self, vocabulary: int, width: int, count: int):
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, index_BT: Tensor) -> Tensor:
        return self.table(index_BT) + self.places


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


def cosine(shape: Shape, like: Tensor, generator: Generator | None) -> Tensor:
    """cos(pi / 2 u) of a uniform u, more weight near 1."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return torch.cos(math.pi / 2 * draw)


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


def chosen_mean(error_BT: Tensor, chosen_BT: Tensor, valid_BN: Tensor) -> Tensor:
    """Mean of the errors of chosen tokens of valid samples; 0 where there are none."""
    each = error_BT.shape[1] // valid_BN.shape[1]
    weight = (chosen_BT & valid_BN.repeat_interleave(each, dim=1)).to(error_BT.dtype)
    return (error_BT * weight).sum() / weight.sum().clamp(min=1)


def cross_entropy(logits_BTV: Tensor, index_BT: Tensor) -> Tensor:
    """Cross-entropy of each token [B, T]."""
    return functional.cross_entropy(logits_BTV.transpose(1, 2), index_BT, reduction="none")


def descending(steps: int, stop: float = 0.0) -> list[tuple[float, float]]:
    """(now, then) of equal steps from 1 (noise) to `stop`; 0 is clean."""
    times = [1 - (1 - stop) * step / steps for step in range(steps + 1)]
    return list(pairwise(times))


def drawn(logits: Tensor, generator: Generator | None) -> Tensor:
    """An index from each distribution: logits [..., V] -> [...]."""
    shares = logits.softmax(dim=-1)
    draw = torch.multinomial(shares.flatten(0, -2), 1, generator=generator)
    return draw.view(shares.shape[:-1])


def revealed(
    index_BT: Tensor, logits_BTV: Tensor, mask: int, then: float, generator: Generator | None
) -> Tensor:
    """Masked tokens drawn; the least likely ones stay masked, sin(pi / 2 then) of all tokens."""
    hidden = index_BT == mask
    draw = drawn(logits_BTV, generator)
    chance = logits_BTV.softmax(dim=-1).gather(2, draw[..., None])[..., 0]
    chance = chance.masked_fill(~hidden, torch.inf)
    left = math.floor(index_BT.shape[1] * math.sin(math.pi / 2 * then))
    least = chance.argsort(dim=1, stable=True)[:, :left]
    return torch.where(hidden, draw, index_BT).scatter(1, least, mask)


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


class Masked(nn.Module):
    """The model `masked`."""

    def __init__(self):
        super().__init__()

        # stream state, normalised by zscore (model.wm:4)
        self.register_buffer("state_mean", torch.zeros(4))
        self.register_buffer("state_scale", torch.ones(4))

        # stream action, normalised by zscore (model.wm:9)
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_scale", torch.ones(2))

        # trunk filler: vit, 2 blocks, width 32, 2 heads x 16 (model.wm:21)
        self.filler = nn.ModuleDict(
            dict(
                state_in=Tokens(4, 32, 2),
                action_in=Symbols(9, 32, 8),
                blocks=nn.ModuleList([ViTBlock(32, Heads(32, 2, 2, 16), 128) for _ in range(2)]),
                norm=nn.LayerNorm(32),
                action_out=Head(32, 8),
            )
        )

    def run_filler(self, filler: Tensor) -> Tensor:
        """The blocks of filler (model.wm:21)."""
        for block in self.filler.blocks:
            query, key, value = block.project(filler)
            mixed = attention(query, key, value)
            filler = block.merge(filler, mixed)
            filler = block.feed(filler)
        return self.filler.norm(filler)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        state = samples(batch, "state", 2, 2, (4,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        action = samples(batch, "action", 4, 4, (2,), "model.wm:9")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(state)

        # act: action.future by masked (model.wm:29)
        action_time = cosine((size, 1), like, generator)
        action_digits = to_bins(action, 8, -3, 3)  # model.wm:14
        action_hidden = (
            torch.rand(
                action_digits.shape, generator=generator, dtype=like.dtype, device=like.device
            )
            < action_time
        )
        action_masked = action_digits.masked_fill(action_hidden, 8)

        # filler (model.wm:21)
        filler = torch.cat(
            [self.filler.state_in(state), self.filler.action_in(action_masked)], dim=1
        )
        filler_out = self.run_filler(filler)

        # act: error (model.wm:29)
        action_out = self.filler.action_out(filler_out[:, 2:10])
        action_valid = validity(batch, "action", size, 4)
        act = chosen_mean(cross_entropy(action_out, action_digits), action_hidden, action_valid)
        return {"loss": act, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given state (exact) (model.wm:33)."""
        state = samples(batch, "state", 2, 2, (4,), "model.wm:4")
        state = (state - self.state_mean) / self.state_scale
        like = next(self.parameters())
        size = len(state)

        # action.future by masked (model.wm:29)
        action = torch.full((size, 8), 8, device=like.device)
        filler_state_now = self.filler.state_in(state)
        for _, then in descending(steps or 3):
            filler = torch.cat([filler_state_now, self.filler.action_in(action)], dim=1)
            filler_out = self.run_filler(filler)
            action = revealed(
                action, self.filler.action_out(filler_out[:, 2:10]), 8, then, generator
            )  # model.wm:29
        action_samples = from_bins(action, 2, 8, -3, 3)
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
