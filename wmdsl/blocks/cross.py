"""Cross-attention: one way, with its own keys and values.

B batch, T tokens, S source tokens, W width, C source width, H heads, G key heads, K head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wmdsl_kernels import attention


class SourceEmbedding(nn.Sequential):
    """Source tokens [B, S, C] at the width of their reader."""

    def __init__(self, source_width: int, width: int):
        gelu = nn.GELU(approximate="tanh")
        super().__init__(nn.Linear(source_width, width), gelu, nn.Linear(width, width))


def framewise(sources: list[Tensor], frames: int) -> Tensor:
    """Source tokens [B, F s, C], those of each frame side by side: [B F, S, C]."""
    parts = [source.unflatten(1, (frames, -1)) for source in sources]
    return torch.cat(parts, dim=2).flatten(0, 1)


def by_frame(reader: nn.Module, x_BTW: Tensor, source_NSC: Tensor) -> Tensor:
    """Tokens, shared out evenly over the frames of a source [B F, S, C], read one frame each."""
    frames = len(source_NSC) // len(x_BTW)
    read = reader(x_BTW.unflatten(1, (frames, -1)).flatten(0, 1), source_NSC)
    return read.unflatten(0, (-1, frames)).flatten(1, 2)


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
