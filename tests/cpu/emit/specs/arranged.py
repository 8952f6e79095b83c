"""Arranged: p(a|o) p(o'|o,a).

spec sha256 1591217ad6bf34ca53d8ec9cc8f7d7497fb04c7b92526785a4e9400d89ffa6cb
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type      rate   segments         batch
word    token 1   10 Hz  now 2, future 2  [B, 4, 1]
action  action 2  10 Hz  future 3         [B, 3, 2]

trunk  kind     blocks  width  heads  tokens
lm     decoder  2       32     4x8    word.now:2 action.future:6 word.future:2

query         answer  steps     sought | given
policy        exact   action 6  action | word.now
controllable  exact   word 2    word.future | word.now, action

19675 parameters

B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim
F frames  N samples  C channels or features  R rows of codes  V vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from wmdsl_kernels import Schedule, attention, rotated_heads


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


def from_sources(
    batch: Mapping[str, Tensor], numbers: tuple[int, ...], size: int, like: Tensor
) -> Tensor:
    """Which samples [B, 1] come from data sources of these numbers; all where none is named."""
    number = batch.get("source")
    if number is None:
        return torch.ones(size, 1, dtype=torch.bool, device=like.device)
    return torch.isin(number, number.new_tensor(numbers))[:, None]


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


TRAIN_ACT_LM = Schedule.from_ranges(
    8,
    8,
    [
        (0, 1, 0, 1),
        (1, 2, 0, 2),
        (2, 3, 0, 3),
        (3, 4, 0, 4),
        (4, 5, 0, 5),
        (5, 6, 0, 6),
        (6, 7, 0, 7),
        (7, 8, 0, 8),
    ],
)  # model.wm:23
TRAIN_WORLD_LM = Schedule.from_ranges(
    5, 5, [(0, 1, 0, 1), (1, 2, 0, 2), (2, 3, 0, 3), (3, 4, 0, 4), (4, 5, 0, 5)]
)  # model.wm:23
POLICY_LM_GIVEN = Schedule.from_ranges(2, 2, [(0, 1, 0, 1), (1, 2, 0, 2)])  # model.wm:23
POLICY_LM_STEP = Schedule.from_ranges(
    6, 8, [(0, 1, 0, 3), (1, 2, 0, 4), (2, 3, 0, 5), (3, 4, 0, 6), (4, 5, 0, 7), (5, 6, 0, 8)]
)  # model.wm:23
CONTROLLABLE_LM_GIVEN = Schedule.from_ranges(
    3, 3, [(0, 1, 0, 1), (1, 2, 0, 2), (2, 3, 0, 3)]
)  # model.wm:23
CONTROLLABLE_LM_STEP = Schedule.from_ranges(2, 5, [(0, 1, 0, 4), (1, 2, 0, 5)])  # model.wm:23


class Arranged(nn.Module):
    """The model `arranged`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:11)
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_scale", torch.ones(2))

        # trunk lm: decoder, 2 blocks, width 32, 4 heads x 8 (model.wm:23)
        self.lm = nn.ModuleDict(
            dict(
                word_now_in=nn.Embedding(11, 32),
                action_in=nn.Embedding(16, 32),
                word_future_in=nn.Embedding(11, 32),
                blocks=nn.ModuleList(
                    [DecoderBlock(32, Heads(32, 4, 4, 8, bias=False), 48) for _ in range(2)]
                ),
                norm=nn.RMSNorm(32, eps=1e-06),
                action_out=Head(32, 16),
                word_future_out=Head(32, 11),
            )
        )
        self.register_buffer("lm_angles", angles_1d(10, 8), persistent=False)

    def run_lm(self, lm: Tensor, angles: Tensor, schedule: Schedule | None) -> Tensor:
        """The blocks of lm (model.wm:23)."""
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
        """Keys and values of lm that no step changes, block by block (model.wm:23)."""
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
        """The blocks of lm, seeing `memory` and themselves (model.wm:23)."""
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

    def loss_act(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        word = samples(batch, "word", 4, 4, (1,), "model.wm:4")
        word_now, word_future = word.split([2, 2], dim=1)
        action = samples(batch, "action", 3, 3, (2,), "model.wm:11")
        action = (action - self.action_mean) / self.action_scale
        size = len(word_now)

        # act: action.future by autoregressive (model.wm:32)

        # lm (model.wm:23)
        word_now_embed = word_now.flatten(1)  # model.wm:4
        action_digits = to_bins(action, 16, -2, 2)  # model.wm:16
        lm = torch.cat(
            [self.lm.word_now_in(word_now_embed), self.lm.action_in(action_digits)], dim=1
        )
        lm_out = self.run_lm(lm, self.lm_angles[0:8], TRAIN_ACT_LM)

        # act: error (model.wm:32)
        action_out = self.lm.action_out(lm_out[:, 1:7])
        action_valid = validity(batch, "action", size, 3)
        act = valid_mean(cross_entropy(action_out, action_digits), action_valid)
        return {"loss": act, "act": act}

    def loss_world(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        word = samples(batch, "word", 4, 4, (1,), "model.wm:4")
        word_now, word_future = word.split([2, 2], dim=1)
        action = samples(batch, "action", 3, 3, (2,), "model.wm:11")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(word_now)

        # next: word.future by autoregressive (model.wm:36)

        # only samples of films count (model.wm:53)
        counted = from_sources(batch, (0,), size, like)

        # lm (model.wm:23)
        word_now_embed = word_now.flatten(1)  # model.wm:4
        action_digits = to_bins(action, 16, -2, 2)  # model.wm:16
        word_future_embed = word_future.flatten(1)  # model.wm:4
        lm = torch.cat(
            [
                self.lm.word_now_in(word_now_embed)[:, 1:2],
                self.lm.action_in(action_digits)[:, 0:2],
                self.lm.word_future_in(word_future_embed),
            ],
            dim=1,
        )
        lm_out = self.run_lm(
            lm, torch.cat([self.lm_angles[1:4], self.lm_angles[8:10]], dim=0), TRAIN_WORLD_LM
        )

        # next: error (model.wm:36)
        word_future_out = self.lm.word_future_out(lm_out[:, 2:4])
        word_valid = validity(batch, "word", size, 4) & counted
        next_ = valid_mean(cross_entropy(word_future_out, word_future_embed), word_valid[:, 2:4])
        return {"loss": 0.5 * next_, "next": next_}

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch in every layout; `loss` is the mean of the layouts by share."""
        act = self.loss_act(batch, generator)  # model.wm:48
        world = self.loss_world(batch, generator)  # model.wm:53
        return {
            "loss": 0.75 * act["loss"] + 0.25 * world["loss"],
            "act": act["act"],
            "next": world["next"],
        }

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given word.now (exact) (model.wm:40).

        word.future: deleted exactly
        """
        word = samples(batch, "word", 2, 4, (1,), "model.wm:4")
        like = next(self.parameters())
        size = len(word)

        # action.future by autoregressive (model.wm:32)
        action = torch.full((size, 6), 0, device=like.device)
        word_now_embed = word.flatten(1)  # model.wm:4
        lm_word_now = self.lm.word_now_in(word_now_embed)
        memory, lm_out_given = self.remember_lm(lm_word_now, self.lm_angles[0:2], POLICY_LM_GIVEN)
        for token in range(6):
            lm = self.lm.action_in(action)
            lm_out = self.step_lm(lm, self.lm_angles[2:8], memory, POLICY_LM_STEP)
            action_logits = self.lm.action_out(
                torch.cat([lm_out_given[:, 1:2], lm_out[:, 0:5]], dim=1)
            )
            action[:, token] = drawn(action_logits[:, token], generator)  # model.wm:32
        action_samples = from_bins(action, 2, 16, -2, 2)
        return {"action": action_samples * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_controllable(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """word.future given word.now, action (exact) (model.wm:44)."""
        word = samples(batch, "word", 2, 4, (1,), "model.wm:4")
        action = samples(batch, "action", 3, 3, (2,), "model.wm:11")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(word)

        # word.future by autoregressive (model.wm:36)
        word_future = torch.full((size, 2), 0, device=like.device)
        word_now_embed = word.flatten(1)  # model.wm:4
        action_digits = to_bins(action, 16, -2, 2)  # model.wm:16
        lm_given = torch.cat(
            [self.lm.word_now_in(word_now_embed)[:, 1:2], self.lm.action_in(action_digits)[:, 0:2]],
            dim=1,
        )
        memory, lm_out_given = self.remember_lm(
            lm_given, self.lm_angles[1:4], CONTROLLABLE_LM_GIVEN
        )
        for token in range(2):
            lm = self.lm.word_future_in(word_future)
            lm_out = self.step_lm(lm, self.lm_angles[8:10], memory, CONTROLLABLE_LM_STEP)
            word_future_logits = self.lm.word_future_out(
                torch.cat([lm_out_given[:, 2:3], lm_out[:, 0:1]], dim=1)
            )
            word_future[:, token] = drawn(word_future_logits[:, token], generator)  # model.wm:36
        word_future_samples = word_future.unflatten(1, (2, 1))
        return {"word": word_future_samples}

    @torch.no_grad()
    def query_passive_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """word.future given word.now (exact) (model.wm:3).

        action.future: not optional
        """
        word = samples(batch, "word", 2, 4, (1,), "model.wm:4")
        like = next(self.parameters())
        size = len(word)

        # action.future by autoregressive (model.wm:32)
        action = torch.full((size, 6), 0, device=like.device)
        word_now_embed = word.flatten(1)  # model.wm:4
        lm_word_now = self.lm.word_now_in(word_now_embed)
        memory, lm_out_given = self.remember_lm(lm_word_now, self.lm_angles[0:2], POLICY_LM_GIVEN)
        for token in range(6):
            lm = self.lm.action_in(action)
            lm_out = self.step_lm(lm, self.lm_angles[2:8], memory, POLICY_LM_STEP)
            action_logits = self.lm.action_out(
                torch.cat([lm_out_given[:, 1:2], lm_out[:, 0:5]], dim=1)
            )
            action[:, token] = drawn(action_logits[:, token], generator)  # model.wm:32

        # word.future by autoregressive (model.wm:36)
        word_future = torch.full((size, 2), 0, device=like.device)
        lm_given = torch.cat(
            [self.lm.word_now_in(word_now_embed)[:, 1:2], self.lm.action_in(action)[:, 0:2]], dim=1
        )
        memory_, lm_out_given = self.remember_lm(
            lm_given, self.lm_angles[1:4], CONTROLLABLE_LM_GIVEN
        )
        for token in range(2):
            lm = self.lm.word_future_in(word_future)
            lm_out = self.step_lm(lm, self.lm_angles[8:10], memory_, CONTROLLABLE_LM_STEP)
            word_future_logits = self.lm.word_future_out(
                torch.cat([lm_out_given[:, 2:3], lm_out[:, 0:1]], dim=1)
            )
            word_future[:, token] = drawn(word_future_logits[:, token], generator)  # model.wm:36
        word_future_samples = word_future.unflatten(1, (2, 1))
        return {"word": word_future_samples}

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
                "controllable": self.query_controllable,
                "passive_world_model": self.query_passive_world_model,
                "controllable_world_model": self.query_controllable,
                "passive": self.query_passive_world_model,
            },
        )(several(batch, draws), generator, steps)
