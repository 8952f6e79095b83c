"""The variance-preserving cosine path. Times broadcast against x [B, T, C]."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def levels(time: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of data and noise at a time from 0 (clean) to 1 (noise)."""
    return torch.cos(math.pi / 2 * time), torch.sin(math.pi / 2 * time)


def noised(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """The point of the path at a time."""
    alpha, sigma = levels(time)
    return alpha * clean + sigma * noise


def velocity_of(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """What a `v` head puts out: the direction of the path at a time."""
    alpha, sigma = levels(time)
    return alpha * noise - sigma * clean


def direction(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """The derivative of the path by its time."""
    return math.pi / 2 * velocity_of(clean, noise, time)


def ends_from_eps(x: Tensor, eps: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """(clean, noise) that a predicted noise implies; the share of data is taken as 0.02 or more."""
    alpha, sigma = levels(time)
    return (x - sigma * eps) / alpha.clamp(min=0.02), eps


def ends_from_x0(x: Tensor, clean: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """(clean, noise) that predicted data imply."""
    alpha, sigma = levels(time)
    return clean, (x - alpha * clean) / sigma


def ends_from_v(x: Tensor, velocity: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """(clean, noise) that a predicted `v` implies."""
    alpha, sigma = levels(time)
    return alpha * x - sigma * velocity, sigma * x + alpha * velocity


def ancestral(clean: Tensor, eps: Tensor, fresh: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """The point at `then`, with as much of its noise drawn anew as the way from data allows."""
    alpha, sigma = levels(now)
    alpha_then, sigma_then = levels(then)
    drawn = sigma_then / sigma * (1 - (alpha / alpha_then) ** 2).clamp(min=0).sqrt()
    kept = (sigma_then**2 - drawn**2).clamp(min=0).sqrt()
    return alpha_then * clean + kept * eps + drawn * fresh
