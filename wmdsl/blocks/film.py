"""Feature-wise modulation of tokens. B batch, T tokens, W width, C source width."""

from __future__ import annotations

from torch import Tensor, nn


class Film(nn.Module):
    """Tokens [B, T, W] scaled and shifted by a pooled source [B, C]; starts as the identity."""

    def __init__(self, source_width: int, width: int):
        super().__init__()
        self.numbers = nn.Linear(source_width, 2 * width)
        nn.init.zeros_(self.numbers.weight)
        nn.init.zeros_(self.numbers.bias)

    def forward(self, x_BTW: Tensor, source_BC: Tensor) -> Tensor:
        scale, shift = self.numbers(source_BC)[:, None].chunk(2, dim=-1)
        return x_BTW * (1 + scale) + shift
