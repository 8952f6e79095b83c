"""Several cameras as one stream: a canvas of their frames, or their frames side by side.

B batch, F frames, V views, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class Tile(NamedTuple):
    """A camera and its (top, left, height, width) in a frame of the stream."""

    key: str
    place: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width to which the camera's frames are resized."""
        return self.place[2:]


def assembled(
    frames: Sequence[torch.Tensor], tiles: Sequence[Tile], shape: tuple[int, ...], apart: bool
) -> torch.Tensor:
    """Frames of each tile [B, F, C, h, w] -> [B, F, V, C, H, W] if apart, else [B, F, C, H, W]."""
    if apart:
        return torch.stack(list(frames), dim=2)
    canvas = frames[0].new_zeros(*frames[0].shape[:2], *shape)
    for image, tile in zip(frames, tiles, strict=True):
        top, left, height, width = tile.place
        canvas[..., top : top + height, left : left + width] = image
    return canvas
