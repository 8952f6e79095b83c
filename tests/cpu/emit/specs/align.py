"""Align: p(a|o) p(z'|o) p(z').

spec sha256 718537987c04a850170dfe31b765ecfaa58847a1616722c1f3c34311a27c67ed
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream  type           rate   segments         batch
scene   video 3x16x16  10 Hz  now 1, future 1  [B, 2, 3, 16, 16]
dream   learned 16     -      whole 1          -
action  action 3       20 Hz  future 2         [B, 2, 3]

trunk   kind  blocks  width  heads  tokens
policy  vit   2       32     2x16   scene.now:16 dream:16 action.future:2

query   answer  steps     sought | given
policy  exact   action 1  action | scene.now

35247 parameters

B batch  T tokens  S source tokens  W width  H heads  G key heads  K head dim
F frames  N samples  C channels or features  R rows of codes  V vocabulary
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from wmdsl_kernels import attention


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


def cosine_over_tokens(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """1 - cosine along the tokens of each feature, mean over features [B, 1]."""
    return (1 - functional.cosine_similarity(x_BTC, y_BTC, dim=1)).mean(dim=-1, keepdim=True)


def smooth_l1(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean Huber distance of each token [B, T], threshold 1."""
    return functional.smooth_l1_loss(x_BTC, y_BTC, reduction="none").mean(dim=-1)


def infonce(x_BTC: Tensor, y_BTC: Tensor, temperature: float) -> Tensor:
    """Cross-entropy [B, T] of finding the own target among those of the batch at this token."""
    x_TBC = functional.normalize(x_BTC, dim=-1).transpose(0, 1)
    y_TBC = functional.normalize(y_BTC, dim=-1).transpose(0, 1)
    logits_TBB = x_TBC @ y_TBC.transpose(1, 2) / temperature
    return logits_TBB.logsumexp(dim=2).T - logits_TBB.diagonal(dim1=1, dim2=2).T


def vcreg(x_BTC: Tensor) -> Tensor:
    """Penalty on features that vanish (deviation below 1) or repeat each other (covariance)."""
    x = x_BTC.flatten(0, 1)
    x = x - x.mean(dim=0)
    deviation = (x.var(dim=0) + 1e-4).sqrt()
    covariance = x.T @ x / (len(x) - 1)
    off_diagonal = covariance - torch.diag(covariance.diagonal())
    return torch.relu(1 - deviation).mean() + off_diagonal.square().sum() / x.shape[1]


def follow(teacher: nn.Module, student: nn.Module, rate: float) -> None:
    """teacher = rate * teacher + (1 - rate) * student, for every weight."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - rate)


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


class Align(nn.Module):
    """The model `align`."""

    def __init__(self):
        super().__init__()

        # stream action, normalised by zscore (model.wm:14)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # codec eyes: conv (model.wm:19)
        self.eyes = ConvGrid(3, (8, 12), (2, 2))

        # trunk policy: vit, 2 blocks, width 32, 2 heads x 16 (model.wm:27)
        self.policy = nn.ModuleDict(
            dict(
                scene_now_in=Tokens(12, 32, 16),
                dream_in=Places(16, 32),
                action_in=Places(2, 32),
                blocks=nn.ModuleList([ViTBlock(32, Heads(32, 2, 2, 16), 128) for _ in range(2)]),
                norm=nn.LayerNorm(32),
                action_out=Head(32, 3),
            )
        )

        # align still by cosine, frozen teacher (model.wm:35)
        self.still = nn.Linear(32, 12)
        self.still_teacher = copy.deepcopy(self.eyes).requires_grad_(False)

        # align slow by smooth_l1, ema teacher (model.wm:42)
        self.slow = nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 12))
        self.slow_teacher = copy.deepcopy(self.eyes).requires_grad_(False)

        # align own by infonce, same teacher (model.wm:47)
        self.own = nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 12))

        # align open by l2, same teacher (model.wm:53)
        self.open = nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 12))

    def run_policy(self, policy: Tensor) -> tuple[Tensor, ...]:
        """The blocks of policy (model.wm:27)."""
        policy_after_0 = policy
        for depth, block in enumerate(self.policy.blocks):
            query, key, value = block.project(policy)
            mixed = attention(query, key, value)
            policy = block.merge(policy, mixed)
            policy = block.feed(policy)
            if depth == 0:
                policy_after_1 = policy
        return self.policy.norm(policy), policy_after_0, policy_after_1

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 2, 2, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        scene_now, scene_future = scene.split([1, 1], dim=1)
        action = samples(batch, "action", 2, 2, (3,), "model.wm:14")
        action = (action - self.action_mean) / self.action_scale
        size = len(scene_now)

        # act: action.future by regression (model.wm:61)

        # policy (model.wm:27)
        scene_now_eyes = self.eyes(scene_now)  # model.wm:19
        policy = torch.cat(
            [
                self.policy.scene_now_in(scene_now_eyes),
                self.policy.dream_in(size),
                self.policy.action_in(size),
            ],
            dim=1,
        )
        policy_out, policy_after_0, policy_after_1 = self.run_policy(policy)

        # act: error (model.wm:61)
        action_out = self.policy.action_out(policy_out[:, 32:34])
        action_valid = validity(batch, "action", size, 2)
        act = valid_mean(l2(action_out, action), action_valid)

        # still: distance to the frozen teacher (model.wm:35)
        still_predicted = self.still(policy_after_1[:, 16:32])
        with torch.no_grad():
            still_target = self.still_teacher(scene_future)
        scene_valid = validity(batch, "scene", size, 2)
        still = valid_mean(
            cosine_over_tokens(still_predicted, still_target),
            scene_valid[:, 1:2].all(dim=1, keepdim=True),
        )

        # slow: distance to the ema teacher (model.wm:42)
        slow_predicted = self.slow(policy_out[:, 16:32])
        with torch.no_grad():
            slow_target = self.slow_teacher(scene_future)
        slow = valid_mean(smooth_l1(slow_predicted, slow_target), scene_valid[:, 1:2])

        # own: distance to the same teacher (model.wm:47)
        own_predicted = self.own(policy_out[:, 16:32])
        with torch.no_grad():
            own_target = self.eyes(scene_future)
        own = valid_mean(infonce(own_predicted, own_target, 0.2), scene_valid[:, 1:2])

        # open: distance to the same teacher (model.wm:53)
        open_predicted = self.open(policy_after_0[:, 16:32])
        scene_future_eyes = self.eyes(scene_future)  # model.wm:19
        open = valid_mean(l2(open_predicted, scene_future_eyes), scene_valid[:, 1:2])
        open_guard = vcreg(open_predicted)
        return {
            "loss": act + still + 0.5 * slow + own + open + 0.3 * open_guard,
            "act": act,
            "still": still,
            "slow": slow,
            "own": own,
            "open": open,
            "open.guard": open_guard,
        }

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the teachers; call it after each optimizer step."""
        follow(self.slow_teacher, self.eyes, 0.9)  # model.wm:42

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene.now (exact) (model.wm:65).

        still: head skipped
        slow: head skipped
        own: head skipped
        open: head skipped
        """
        scene = samples(batch, "scene", 1, 2, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        size = len(scene)

        # action.future by regression (model.wm:61)
        scene_now_eyes = self.eyes(scene)  # model.wm:19
        policy = torch.cat(
            [
                self.policy.scene_now_in(scene_now_eyes),
                self.policy.dream_in(size),
                self.policy.action_in(size),
            ],
            dim=1,
        )
        policy_out, policy_after_0, policy_after_1 = self.run_policy(policy)
        action = self.policy.action_out(policy_out[:, 32:34])
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_passive_world_model(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """scene.future given scene.now (exact) (model.wm:3).

        action.future: head skipped
        """
        scene = samples(batch, "scene", 1, 2, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        size = len(scene)

        # scene.future by align (model.wm:35)
        scene_now_eyes = self.eyes(scene)  # model.wm:19
        policy = torch.cat(
            [
                self.policy.scene_now_in(scene_now_eyes),
                self.policy.dream_in(size),
                self.policy.action_in(size),
            ],
            dim=1,
        )
        policy_out, policy_after_0, policy_after_1 = self.run_policy(policy)
        still_predicted = self.still(policy_after_1[:, 16:32])
        slow_predicted = self.slow(policy_out[:, 16:32])
        own_predicted = self.own(policy_out[:, 16:32])
        open_predicted = self.open(policy_after_0[:, 16:32])
        return {
            "still": still_predicted,
            "slow": slow_predicted,
            "own": own_predicted,
            "open": open_predicted,
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
                "passive_world_model": self.query_passive_world_model,
                "passive": self.query_passive_world_model,
            },
        )(several(batch, draws), generator, steps)
