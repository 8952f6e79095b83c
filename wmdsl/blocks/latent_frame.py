"""Numbers written into a latent frame, and read back. B batch, N steps, C numbers per step."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def to_frame(x_BNC: Tensor, tile: tuple[int, int, int]) -> Tensor:
    """All numbers of all steps, repeated until they fill one frame [B, 1, *tile]."""
    numbers = x_BNC.flatten(1)
    place = torch.arange(math.prod(tile), device=numbers.device) % numbers.shape[1]
    return numbers[:, place].unflatten(1, (1, *tile))


def from_frame(frame_B1CHW: Tensor, steps: int, size: int) -> Tensor:
    """The mean of the repeats of each number [B, steps, size]."""
    cells = frame_B1CHW.flatten(1)
    count, numbers = cells.shape[1], torch.arange(steps * size, device=cells.device)
    place = torch.arange(count, device=cells.device) % len(numbers)
    total = cells.new_zeros(len(cells), len(numbers)).index_add(1, place, cells)
    repeats = count // len(numbers) + (numbers < count % len(numbers)).long()
    return (total / repeats).unflatten(1, (steps, size))
