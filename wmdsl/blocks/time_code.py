"""Noise levels as vectors. B batch, R rows, W width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoids(time_BR: Tensor) -> Tensor:
    """Times in 0 (clean) to 1 (noise) as 256 sinusoids [B, R, 256]."""
    place = torch.arange(128, dtype=time_BR.dtype, device=time_BR.device)
    angles = time_BR[..., None] * (1000 * torch.exp(-math.log(10000) * place / 128))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


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
