"""UnifiedVla: p(a|o,l) p(o'|o,l).

spec sha256 dd6b55d9016075946a97e65a5768f021e6f7a0fd51a047e22055769bf8b1f15f
edition 2026, wmdsl 0.1.0; edit the spec, not this file
lines such as model.wm:12 are those of the canonical spec (`wmdsl canon`)

stream       type           rate   segments         batch
corner       video 3x64x64  5 Hz   now 1, future 1  [B, 2, 3, 64, 64]
wrist        video 3x64x64  20 Hz  now 1            [B, 1, 3, 64, 64]
proprio      proprio 4      80 Hz  now 1            [B, 1, 4]
instruction  language 32    -      whole 1          [B, 32]
action       action 4       80 Hz  future 16        [B, 16, 4]

trunk  kind     blocks  width  heads  tokens
lm     decoder  3       192    4x32   instruction:1 corner.now:4 wrist.now:4 proprio.now:1
                                      action.future:16 corner.future:16

query    answer  steps     sought | given
policy   exact   action 1  action | corner.now, wrist, instruction, proprio
imagine  exact   corner 1  corner.future | corner.now, wrist, instruction, proprio

1802948 parameters

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


class Places(nn.Module):
    """Learned tokens that carry no data, as registers and placeholders: [B, T, W]."""

    def __init__(self, count: int, width: int):
        super().__init__()
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, batch_size: int) -> Tensor:
        return self.places.expand(batch_size, -1, -1)


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


def whole(batch: Mapping[str, Tensor], name: str, shape: tuple[int, ...], at: str) -> Tensor:
    """A stream without a time axis [B, *shape]."""
    if name not in batch:
        raise ValueError(f"the batch has no {name!r}, which {at} declares")
    x = batch[name]
    if x.shape[1:] != shape:
        wanted = ", ".join(("B", *map(str, shape)))
        raise ValueError(f"batch[{name!r}] is {list(x.shape)}, but {at} declares [{wanted}]")
    return x


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


def l1(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean absolute difference of each token [B, T]."""
    return (x_BTC - y_BTC).abs().mean(dim=-1)


def patchify(x_BFCHW: Tensor, height: int, width: int) -> Tensor:
    """Frames -> tokens [B, F * rows * columns, C * height * width]."""
    x = x_BFCHW.unflatten(4, (-1, width)).unflatten(3, (-1, height))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


def l2(x_BTC: Tensor, y_BTC: Tensor) -> Tensor:
    """Mean squared difference of each token [B, T]."""
    return (x_BTC - y_BTC).square().mean(dim=-1)


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
    42,
    42,
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
        (28, 29, 0, 29),
        (29, 30, 0, 30),
        (30, 31, 0, 31),
        (31, 32, 0, 32),
        (32, 33, 0, 33),
        (33, 34, 0, 34),
        (34, 35, 0, 35),
        (35, 36, 0, 36),
        (36, 37, 0, 37),
        (37, 38, 0, 38),
        (38, 39, 0, 39),
        (39, 40, 0, 40),
        (40, 41, 0, 41),
        (41, 42, 0, 42),
    ],
)  # model.wm:60
POLICY_LM = Schedule.from_ranges(
    26,
    26,
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
    ],
)  # model.wm:60


class UnifiedVla(nn.Module):
    """The model `unified_vla`."""

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

        # trunk lm: decoder, 3 blocks, width 192, 4 heads x 32 (model.wm:60)
        self.lm = nn.ModuleDict(
            dict(
                instruction_in=nn.Linear(64, 192),
                corner_now_in=nn.Linear(64, 192),
                wrist_in=nn.Linear(64, 192),
                proprio_in=nn.Linear(4, 192),
                action_in=Places(16, 192),
                corner_future_in=Places(16, 192),
                blocks=nn.ModuleList(
                    [DecoderBlock(192, Heads(192, 4, 2, 32, bias=False), 384) for _ in range(3)]
                ),
                norm=nn.RMSNorm(192, eps=1e-06),
                action_out=Head(192, 4),
                corner_future_out=Head(192, 768),
            )
        )
        self.register_buffer("lm_angles", angles_1d(42, 32), persistent=False)

    def run_lm(self, lm: Tensor, angles: Tensor, schedule: Schedule | None) -> Tensor:
        """The blocks of lm (model.wm:60)."""
        for block in self.lm.blocks:
            query, key, value = block.project(lm)
            query = rotated(query, angles)
            key = rotated(key, angles)
            mixed = attention(query, key, value, schedule)
            lm = block.merge(lm, mixed)
            lm = block.feed(lm)
        return self.lm.norm(lm)

    def loss(
        self, batch: dict[str, Tensor], generator: Generator | None = None
    ) -> dict[str, Tensor]:
        """Loss terms of a batch; `loss` is their weighted sum."""
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
        size = len(corner_now)

        # act: action.future by regression (model.wm:69)

        # foresight: corner.future by regression (model.wm:73)

        # lm (model.wm:60)
        instruction_words = self.words(instruction)  # model.wm:34
        corner_now_eyes = self.eyes(corner_now)  # model.wm:40
        wrist_eyes = self.wrist_eyes(wrist)  # model.wm:48
        lm = torch.cat(
            [
                self.lm.instruction_in(instruction_words),
                self.lm.corner_now_in(corner_now_eyes),
                self.lm.wrist_in(wrist_eyes),
                self.lm.proprio_in(proprio),
                self.lm.action_in(size),
                self.lm.corner_future_in(size),
            ],
            dim=1,
        )
        lm_out = self.run_lm(lm, self.lm_angles, TRAIN_LM)

        # act: error (model.wm:69)
        action_out = self.lm.action_out(lm_out[:, 10:26])
        action_valid = validity(batch, "action", size, 16)
        act = valid_mean(l1(action_out, action), action_valid)

        # foresight: error (model.wm:73)
        corner_future_out = self.lm.corner_future_out(lm_out[:, 26:42])
        corner_future_patches = patchify(corner_future, 16, 16)  # model.wm:56
        corner_valid = validity(batch, "corner", size, 2)
        foresight = valid_mean(l2(corner_future_out, corner_future_patches), corner_valid[:, 1:2])
        return {"loss": act + 2 * foresight, "act": act, "foresight": foresight}

    @torch.no_grad()
    def query_policy(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """action given corner.now, wrist, instruction, proprio (exact) (model.wm:77).

        corner.future: deleted exactly
        """
        corner = samples(batch, "corner", 1, 2, (3, 64, 64), "model.wm:4")
        corner = 2 * corner - 1
        wrist = samples(batch, "wrist", 1, 1, (3, 64, 64), "model.wm:11")
        wrist = 2 * wrist - 1
        proprio = samples(batch, "proprio", 1, 1, (4,), "model.wm:17")
        proprio = (proprio - self.proprio_mean) / self.proprio_scale
        instruction = whole(batch, "instruction", (32,), "model.wm:23")
        size = len(corner)

        # action.future by regression (model.wm:69)
        instruction_words = self.words(instruction)  # model.wm:34
        corner_now_eyes = self.eyes(corner)  # model.wm:40
        wrist_eyes = self.wrist_eyes(wrist)  # model.wm:48
        lm = torch.cat(
            [
                self.lm.instruction_in(instruction_words),
                self.lm.corner_now_in(corner_now_eyes),
                self.lm.wrist_in(wrist_eyes),
                self.lm.proprio_in(proprio),
                self.lm.action_in(size),
            ],
            dim=1,
        )
        lm_out = self.run_lm(lm, self.lm_angles[0:26], POLICY_LM)
        action = self.lm.action_out(lm_out[:, 10:26])
        return {"action": action * self.action_scale + self.action_mean}

    @torch.no_grad()
    def query_imagine(
        self, batch: dict[str, Tensor], generator: Generator | None = None, steps: int | None = None
    ) -> dict[str, Tensor]:
        """corner.future given corner.now, wrist, instruction, proprio (exact) (model.wm:82).

        action.future: head skipped
        """
        corner = samples(batch, "corner", 1, 2, (3, 64, 64), "model.wm:4")
        corner = 2 * corner - 1
        wrist = samples(batch, "wrist", 1, 1, (3, 64, 64), "model.wm:11")
        wrist = 2 * wrist - 1
        proprio = samples(batch, "proprio", 1, 1, (4,), "model.wm:17")
        proprio = (proprio - self.proprio_mean) / self.proprio_scale
        instruction = whole(batch, "instruction", (32,), "model.wm:23")
        size = len(corner)

        # corner.future by regression (model.wm:73)
        instruction_words = self.words(instruction)  # model.wm:34
        corner_now_eyes = self.eyes(corner)  # model.wm:40
        wrist_eyes = self.wrist_eyes(wrist)  # model.wm:48
        lm = torch.cat(
            [
                self.lm.instruction_in(instruction_words),
                self.lm.corner_now_in(corner_now_eyes),
                self.lm.wrist_in(wrist_eyes),
                self.lm.proprio_in(proprio),
                self.lm.action_in(size),
                self.lm.corner_future_in(size),
            ],
            dim=1,
        )
        lm_out = self.run_lm(lm, self.lm_angles, TRAIN_LM)
        corner_future = self.lm.corner_future_out(lm_out[:, 26:42])
        corner_future_samples = unpatchify(corner_future, (1, 3, 64, 64), 16, 16)
        return {"corner": ((corner_future_samples + 1) / 2).clamp(0, 1)}

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
