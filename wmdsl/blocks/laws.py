"""Laws of the training time, from 0 (clean) to 1 (pure noise); `like` gives dtype and device."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

Shape = tuple[int, ...]


def uniform(
    shape: Shape, low: float, high: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Uniform between `low` and `high`."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return low + (high - low) * draw


def logit_normal(
    shape: Shape, mean: float, deviation: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Logistic of a normal variable."""
    draw = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    return torch.sigmoid(mean + deviation * draw)


def beta(shape: Shape, a: float, b: float, like: Tensor, generator: Generator | None) -> Tensor:
    """0.001 + 0.999 Beta(a, b); more weight near pure noise for a > b."""
    shapes = torch.tensor([a, b], dtype=like.dtype, device=like.device).expand(*shape, 2)
    gamma = torch._standard_gamma(shapes, generator)
    return 0.001 + 0.999 * gamma[..., 0] / gamma.sum(dim=-1)


def cosine(shape: Shape, like: Tensor, generator: Generator | None) -> Tensor:
    """cos(pi / 2 u) of a uniform u, more weight near 1."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return torch.cos(math.pi / 2 * draw)


def lognormal(
    shape: Shape, mean: float, deviation: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Noise levels of EDM: exp of a normal variable."""
    draw = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    return torch.exp(mean + deviation * draw)


def loglogistic(
    shape: Shape, mean: float, scale: float, like: Tensor, generator: Generator | None
) -> Tensor:
    """Noise levels of EDM: exp of a logistic variable; a millionth at either end is cut off."""
    draw = torch.rand(shape, generator=generator, dtype=like.dtype, device=like.device)
    return torch.exp(mean + scale * torch.logit(draw, eps=1e-6))


def mix(draws: list[Tensor], shares: list[float], generator: Generator | None) -> Tensor:
    """For each sample one of the draws, each with its share as the chance."""
    first = draws[0]
    ends = torch.tensor(shares, dtype=first.dtype, device=first.device).cumsum(dim=0)
    draw = torch.rand(first.shape, generator=generator, dtype=first.dtype, device=first.device)
    which = torch.bucketize(draw * ends[-1], ends, right=True).clamp(max=len(draws) - 1)
    return torch.stack(draws).gather(0, which[None])[0]


def fixed(shape: Shape, time: float, like: Tensor) -> Tensor:
    """Always the same time."""
    return torch.full(shape, time, dtype=like.dtype, device=like.device)


def shifted(time: Tensor | float, shift: float) -> Tensor | float:
    """The time moved towards noise by a shift above 1: a number or a tensor."""
    return shift * time / (1 + (shift - 1) * time)
