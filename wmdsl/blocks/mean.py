"""Fully connected layers over what each token sees. B batch, T tokens, W width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def shares(tokens: int, ranges: Sequence[tuple[int, int, int, int]]) -> Tensor:
    """The share [T, T] of each key in the mean of what a query sees, from rows
    (query_start, query_stop, key_start, key_stop)."""
    seen = torch.zeros(tokens, tokens)
    for query_start, query_stop, key_start, key_stop in ranges:
        seen[query_start:query_stop, key_start:key_stop] = 1
    return seen / seen.sum(dim=1, keepdim=True)


class MeanLayer(nn.Linear):
    """Tokens and, added to them, a layer over the mean of the tokens that each one sees."""

    def forward(self, x_BTW: Tensor, shares_TT: Tensor) -> Tensor:
        return x_BTW + functional.gelu(super().forward(shares_TT.to(x_BTW) @ x_BTW))
