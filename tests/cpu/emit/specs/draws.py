"""Draws: p(a|o).

spec sha256 8517b0f7ebd3dcfc9ebffe539a80793a933a60c580fcf56ef4030182e2a19c7d
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream     type           rate   segments  batch
scene      video 3x16x16  10 Hz  now 1     [B, 1, 3, 16, 16]
body       proprio 5      20 Hz  now 1     [B, 1, 5]
registers  learned 2      -      whole 1   -
action     action 3       20 Hz  future 4  [B, 4, 3]

trunk  kind  blocks  width  heads  tokens
seer   vit   2       32     2x16   scene.now:4
doer   dit   2       24     2x12   body.now:1 registers:2 action.future:4

query   answer  steps     sought | given
policy  exact   action 3  action | scene, body

75075 parameters

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

from wmdsl_kernels import attention, gated_residual, modulated_norm


class Tokens(nn.Module):
    """Features [B, T, C] -> tokens [B, T, W], with a learned place for each token."""

    def __init__(self, features: int, width: int, count: int):
        super().__init__()
        self.projection = nn.Linear(features, width)
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.projection(x_BTC) + self.places


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


def beta(shape: Shape, a: float, b: float, like: Tensor, generator: Generator | None) -> Tensor:
    """0.001 + 0.999 Beta(a, b); more weight near pure noise for a > b."""
    shapes = torch.tensor([a, b], dtype=like.dtype, device=like.device).expand(*shape, 2)
    gamma = torch._standard_gamma(shapes, generator)
    return 0.001 + 0.999 * gamma[..., 0] / gamma.sum(dim=-1)


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal noise with the dtype and device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def patchify(x_BFCHW: Tensor, height: int, width: int) -> Tensor:
    """Frames -> tokens [B, F * rows * columns, C * height * width]."""
    x = x_BFCHW.unflatten(4, (-1, width)).unflatten(3, (-1, height))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


def sinusoids(time_BR: Tensor) -> Tensor:
    """Times in 0 (clean) to 1 (noise) as 256 sinusoids [B, R, 256]."""
    place = torch.arange(128, dtype=time_BR.dtype, device=time_BR.device)
    angles = time_BR[..., None] * (1000 * torch.exp(-math.log(10000) * place / 128))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


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


def bell(time: Tensor) -> Tensor:
    """Weight of an error at a time: a bell around the middle, 0 at both ends, 1 in the mean."""
    at_the_ends, mean = math.exp(-0.5), 0.2490937321795
    return (torch.exp(-2 * (time - 0.5) ** 2) - at_the_ends) / mean


def l2(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean squared difference of each token [B, T]."""
    return (x_BTC - y_BTC).square().mean(dim=-1)


def descending(steps: int, stop: float = 0.0) -> list[tuple[float, float]]:
    """(now, then) of equal steps from 1 (noise) to `stop`; 0 is clean."""
    times = [1 - (1 - stop) * step / steps for step in range(steps + 1)]
    return list(pairwise(times))


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


class Draws(nn.Module):
    """The model `draws`."""

    def __init__(self):
        super().__init__()

        # stream body, normalised by zscore (model.wm:9)
        self.register_buffer("body_mean", torch.zeros(5))
        self.register_buffer("body_scale", torch.ones(5))

        # stream action, normalised by zscore (model.wm:18)
        self.register_buffer("action_mean", torch.zeros(3))
        self.register_buffer("action_scale", torch.ones(3))

        # trunk seer: vit, 2 blocks, width 32, 2 heads x 16 (model.wm:27)
        self.seer = nn.ModuleDict(
            dict(
                scene_in=Tokens(192, 32, 4),
                blocks=nn.ModuleList([ViTBlock(32, Heads(32, 2, 2, 16), 128) for _ in range(2)]),
                norm=nn.LayerNorm(32),
            )
        )

        # trunk doer: dit, 2 blocks, width 24, 2 heads x 12 (model.wm:35)
        self.doer = nn.ModuleDict(
            dict(
                body_in=Tokens(5, 24, 1),
                registers_in=Places(2, 24),
                action_in=Tokens(3, 24, 4),
                time=TimeCode(24),
                blocks=nn.ModuleList(
                    [DiTBlock(24, Heads(24, 2, 2, 12), AdaLN(24, count=6), 96) for _ in range(2)]
                ),
                norm=ModulatedNorm(24),
                action_out=Head(24, 3),
            )
        )

        # cross look -> doer (model.wm:46)
        self.look = nn.ModuleList([CrossAttention(24, 24, 2, 2, 12) for _ in range(2)])
        self.look_embed = SourceEmbedding(32, 24)

        # condition state by adaln (model.wm:51)
        self.state = nn.Linear(5, 24)

        # condition lead by prefix (model.wm:52)
        self.lead = nn.Linear(32, 24)

        # condition clock by prefix (model.wm:53)
        self.clock = nn.Linear(256, 24)

    def run_seer(self, seer: Tensor) -> Tensor:
        """The blocks of seer (model.wm:27)."""
        for block in self.seer.blocks:
            query, key, value = block.project(seer)
            mixed = attention(query, key, value)
            seer = block.merge(seer, mixed)
            seer = block.feed(seer)
        return self.seer.norm(seer)

    def run_doer(self, doer: Tensor, code: Runs, look: Tensor) -> Tensor:
        """The blocks of doer (model.wm:35)."""
        for depth, block in enumerate(self.doer.blocks):
            modulation = block.modulation(code)
            query, key, value = block.project(doer, modulation)
            mixed = attention(query, key, value)
            doer = block.merge(doer, mixed, modulation)
            doer = self.look[depth](doer, look)  # model.wm:46
            doer = block.feed(doer, modulation)
        return self.doer.norm(doer, code)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
        scene = samples(batch, "scene", 1, 1, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        body = samples(batch, "body", 1, 1, (5,), "model.wm:9")
        body = (body - self.body_mean) / self.body_scale
        action = samples(batch, "action", 4, 4, (3,), "model.wm:18")
        action = (action - self.action_mean) / self.action_scale
        like = next(self.parameters())
        size = len(scene)

        # act: action.future by flow (model.wm:54)
        action_time = beta((size * 3, 1), 1.5, 1, like, generator)
        action_drawn = action.repeat_interleave(3, dim=0)
        action_noise = normal(action_drawn.shape, like, generator)
        action_noisy = torch.lerp(action_drawn, action_noise, action_time[..., None])

        # seer (model.wm:27)
        scene_patches = patchify(scene, 8, 8)  # model.wm:23
        seer = self.seer.scene_in(scene_patches)
        seer_out = self.run_seer(seer)

        # doer (model.wm:35)
        doer = torch.cat(
            [
                self.lead(seer_out.repeat_interleave(3, dim=0).mean(dim=1))[:, None],
                self.clock(sinusoids(action_time).mean(dim=1))[:, None],
                self.doer.body_in(body).repeat_interleave(3, dim=0),
                self.doer.registers_in(size * 3),
                self.doer.action_in(action_noisy),
            ],
            dim=1,
        )
        doer_code = Runs(
            self.doer.time(torch.cat([like.new_zeros(size * 3, 1), action_time], dim=1))
            + self.state(body.repeat_interleave(3, dim=0).mean(dim=1))[:, None],
            (5, 4),
        )
        look = self.look_embed(seer_out.repeat_interleave(3, dim=0))
        doer_out = self.run_doer(doer, doer_code, look)

        # act: error (model.wm:54)
        action_out = self.doer.action_out(doer_out[:, 5:9])
        action_valid = validity(batch, "action", size, 4)
        act = valid_mean(
            bell(action_time) * l2(action_out, action_noise - action_drawn),
            action_valid.repeat_interleave(3, dim=0),
        )
        return {"loss": act, "act": act}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given scene, body (exact) (model.wm:63)."""
        scene = samples(batch, "scene", 1, 1, (3, 16, 16), "model.wm:4")
        scene = 2 * scene - 1
        body = samples(batch, "body", 1, 1, (5,), "model.wm:9")
        body = (body - self.body_mean) / self.body_scale
        like = next(self.parameters())
        size = len(scene)
        clean = like.new_zeros(size, 1)

        # action.future by flow (model.wm:54)
        action = normal((size, 4, 3), like, generator)
        scene_patches = patchify(scene, 8, 8)  # model.wm:23
        seer = self.seer.scene_in(scene_patches)
        seer_out = self.run_seer(seer)
        look = self.look_embed(seer_out)
        doer_lead = self.lead(seer_out.mean(dim=1))[:, None]
        doer_given = torch.cat([self.doer.body_in(body), self.doer.registers_in(size)], dim=1)
        for now, then in descending(steps or 3):
            action_time = like.new_full((size, 1), now)
            doer = torch.cat(
                [
                    doer_lead,
                    self.clock(sinusoids(action_time).mean(dim=1))[:, None],
                    doer_given,
                    self.doer.action_in(action),
                ],
                dim=1,
            )
            doer_code = Runs(
                self.doer.time(torch.cat([clean, action_time], dim=1))
                + self.state(body.mean(dim=1))[:, None],
                (5, 4),
            )
            doer_out = self.run_doer(doer, doer_code, look)
            action_velocity = self.doer.action_out(doer_out[:, 5:9])  # model.wm:54
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
        return chosen(name, {"policy": self.query_policy})(several(batch, draws), generator, steps)
