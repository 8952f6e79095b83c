"""Fully connected layers over what each token sees. B batch, T tokens, W width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Shares:
    """The share [T, T] of each key in the mean of what a query sees, from rows
    (query_start, query_stop, key_start, key_stop)."""

    def __init__(self, tokens: int, ranges: Sequence[tuple[int, int, int, int]]):
        seen_TT = torch.zeros(tokens, tokens)
        for query_start, query_stop, key_start, key_stop in ranges:
            seen_TT[query_start:query_stop, key_start:key_stop] = 1
        self.share_TT = seen_TT / seen_TT.sum(dim=1, keepdim=True)
        self.placed: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """With the dtype and device of x; copied once, since no CUDA graph copies from the host."""
        place = x.dtype, x.device
        found = self.placed.get(place)
        if type(found) is not type(x):  # none yet, or the stand-in of another trace
            with torch.inference_mode(False):  # training may read it next
                found = self.share_TT.to(x)
            if not torch.compiler.is_compiling():
                self.placed[place] = found
        return found


class MeanLayer(nn.Linear):
    """Tokens and, added to them, a layer over the mean of the tokens that each one sees."""

    def forward(self, x_BTW: Tensor, shares: Shares) -> Tensor:
        return x_BTW + functional.gelu(super().forward(shares.like(x_BTW) @ x_BTW))
