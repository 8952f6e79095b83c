"""How features become tokens of a trunk: projections, learned places, tables.

B batch, T tokens, C features, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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


class Symbols(nn.Module):
    """Indices [B, T] -> tokens [B, T, W] by a table, with a learned place for each token."""

    def __init__(self, vocabulary: int, width: int, count: int):
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, index_BT: Tensor) -> Tensor:
        return self.table(index_BT) + self.places


class Head(nn.Linear):
    """Linear read-out of tokens that starts at zero."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
