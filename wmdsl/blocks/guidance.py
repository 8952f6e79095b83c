"""Classifier-free guidance: a batch beside itself without what is left out. B batch.

The first half of every tensor is asked in full, the second half without what is left out.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from wmdsl.blocks.sampling import normal


def dropped(x: Tensor, share: float, generator: Generator | None) -> Tensor:
    """A share of the samples has zeros: no text, the mean of numbers, mid-grey."""
    draw = torch.rand(len(x), generator=generator, device=x.device)
    return x * (draw >= share).view(-1, *[1] * (x.ndim - 1))


def twice(x: Tensor) -> Tensor:
    """The batch beside itself."""
    return torch.cat([x, x])


def beside_nothing(x: Tensor) -> Tensor:
    """The batch beside zeros."""
    return torch.cat([x, torch.zeros_like(x)])


def normal_twice(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """The same noise for both halves of a batch of this shape."""
    return twice(normal((shape[0] // 2, *shape[1:]), like, generator))


def guided(output: Tensor, scale: float) -> Tensor:
    """Away from the answer without what is left out, `scale` times the difference; for both."""
    full, without = output.chunk(2)
    return twice(without + scale * (full - without))
