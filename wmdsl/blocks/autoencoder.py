"""Video auto-encoder: strided convolutions, causal in time, with residual blocks.

B batch, F frames, C channels, H rows, W columns, T latent frames; strides: (time, rows, columns).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalConv(nn.Conv3d):
    """Convolution over frames and cells that sees no later frame: each side shrinks by its stride.

    The kernel reaches over `reach` frames and 3 x 3 cells, or over its stride where that is more.
    """

    def __init__(
        self, inputs: int, outputs: int, reach: int, strides: tuple[int, int, int] = (1, 1, 1)
    ):
        kernel = [max(least, stride) for least, stride in zip((reach, 3, 3), strides, strict=True)]
        super().__init__(inputs, outputs, kernel, strides)
        time, *sides = (size - stride for size, stride in zip(kernel, strides, strict=True))
        self.around = [part for side in sides[::-1] for part in ((side + 1) // 2, side // 2)]
        self.around += [time, 0]

    def forward(self, x_BCFHW: Tensor) -> Tensor:
        return super().forward(functional.pad(x_BCFHW, self.around))


class Residual(nn.Module):
    """x + convolution of its cells, each brought to root mean square 1 over its channels."""

    def __init__(self, channels: int, reach: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1, 1))
        self.layer = CausalConv(channels, channels, reach)

    def forward(self, x_BCFHW: Tensor) -> Tensor:
        return x_BCFHW + self.layer(functional.silu(self.scale * unit_cells(x_BCFHW)))


def unit_cells(x_BCFHW: Tensor) -> Tensor:
    """Cells whose channels have root mean square 1."""
    return functional.normalize(x_BCFHW, dim=1) * x_BCFHW.shape[1] ** 0.5


class Larger(nn.Module):
    """Every cell repeated along each axis."""

    def __init__(self, strides: tuple[int, int, int]):
        super().__init__()
        self.strides = strides

    def forward(self, x_BCFHW: Tensor) -> Tensor:
        for axis, times in enumerate(self.strides, start=2):
            x_BCFHW = x_BCFHW.repeat_interleave(times, dim=axis)
        return x_BCFHW


class Autoencoder(nn.Module):
    """Frames [B, F, C, H, W] <-> latents [B, T, channels, rows, columns] of root mean square 1.

    Latents are data, to which noise is added: they are as wide as the frames, under autocast too.

    `widths` and `strides` are those of each stage.  Frames come in groups of `group`; where the
    first group is not full, its first frame is repeated, so that one frame alone is a group too.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        widths: tuple[int, ...],
        strides: tuple[tuple[int, int, int], ...],
        reach: int,
        group: int,
    ):
        super().__init__()
        self.group = group
        down, up, before = [], [], inputs
        for width, stride in zip(widths, strides, strict=True):
            down += [CausalConv(before, width, reach, stride), Residual(width, reach)]
            up = [Residual(width, reach), Larger(stride), CausalConv(width, before, reach), *up]
            before = width
        self.encoder = nn.Sequential(*down, CausalConv(before, channels, reach))
        self.decoder = nn.Sequential(CausalConv(channels, before, reach), *up)

    def encode(self, x_BFCHW: Tensor) -> Tensor:
        """Frames -> latents; no latent sees a later frame."""
        x = full_groups(x_BFCHW, self.group).transpose(1, 2)
        return unit_cells(self.encoder(x).to(x)).transpose(1, 2)

    def decode(self, latents_BTCHW: Tensor, frames: int) -> Tensor:
        """Latents -> the last `frames` of the frames that they stand for."""
        frames_BCTHW = self.decoder(latents_BTCHW.transpose(1, 2)).to(latents_BTCHW)
        return frames_BCTHW.transpose(1, 2)[:, -frames:]


def full_groups(x_BFCHW: Tensor, group: int) -> Tensor:
    """The frames with the first one repeated until they are a multiple of `group`."""
    missing = -x_BFCHW.shape[1] % group
    return torch.cat([x_BFCHW[:, :1].expand(-1, missing, -1, -1, -1), x_BFCHW], dim=1)
