"""A learned spatial mask on handed frames. B batch, F frames, C channels."""

from __future__ import annotations

from torch import Tensor, nn


class SoftMask(nn.Module):
    """How much of each pixel of frames [B, F, C, H, W] is kept: [B, F, 1, H, W] in 0..1."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 1, kernel_size=3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        return self.layers(x_BFCHW.flatten(0, 1)).unflatten(0, x_BFCHW.shape[:2])


class HardMask(SoftMask):
    """The mask rounded to 0 or 1; the gradient passes straight through the rounding."""

    def forward(self, x_BFCHW: Tensor) -> Tensor:
        soft = super().forward(x_BFCHW)
        return soft + (soft.round() - soft).detach()
