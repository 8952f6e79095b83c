"""Weights by embodiment. B batch, E embodiments."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Bank(nn.ModuleList):
    """One module for each embodiment; every sample goes through its own."""

    def forward(self, x: Tensor, embodiment_B: Tensor) -> Tensor:
        every_EB = torch.stack([member(x) for member in self])
        return every_EB[embodiment_B, torch.arange(len(x), device=x.device)]
