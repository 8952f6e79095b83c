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
