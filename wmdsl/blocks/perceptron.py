"""Two layers per token. B batch, T tokens, C features."""

from __future__ import annotations

from torch import nn


class Perceptron(nn.Sequential):
    """Features [B, T, C] through a hidden layer, back to C features."""

    def __init__(self, features: int, hidden: int):
        super().__init__(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, features))
