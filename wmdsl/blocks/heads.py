"""Projections around attention.

B batch, T tokens, W width, H heads, G key heads, K head dim.
"""

from __future__ import annotations

from torch import Tensor, nn


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


class NormedHeads(Heads):
    """Heads whose queries and keys are RMS-normalised per head."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int, bias: bool = True):
        super().__init__(width, heads, kv_heads, head_dim, bias)
        self.query_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.key_norm = nn.RMSNorm(head_dim, eps=1e-6)

    def project(self, x_BTW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = super().project(x_BTW)
        return self.query_norm(query), self.key_norm(key), value


class JointlyNormedHeads(Heads):
    """Heads whose queries and keys are RMS-normalised across all heads together."""

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int, bias: bool = True):
        super().__init__(width, heads, kv_heads, head_dim, bias)
        self.query_norm = nn.RMSNorm((heads, head_dim), eps=1e-6)
        self.key_norm = nn.RMSNorm((kv_heads, head_dim), eps=1e-6)

    def project(self, x_BTW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = super().project(x_BTW)
        return self.query_norm(query), self.key_norm(key), value
