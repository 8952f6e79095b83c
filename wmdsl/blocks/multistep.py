"""Second-order steps from the last two predictions. x [B, T, C]; times and shares are numbers.

The first step has no prediction before it and is of first order.
"""

from __future__ import annotations

import math

from torch import Tensor

Last = tuple[Tensor, float] | None  # a prediction, and where on the way it was made


def adams_bashforth(
    x: Tensor, slope: Tensor, last: Last, now: float, then: float
) -> tuple[Tensor, Last]:
    """x at `then`, along the slope halfway that this one and the last one extrapolate to."""
    step, mean = then - now, slope
    if last is not None:
        before, time = last
        mean = slope + step / (2 * (now - time)) * (slope - before)
    return x + step * mean, (slope, now)


def on_cosine(time: float) -> tuple[float, float]:
    """Shares of data and noise at a time of the variance-preserving path."""
    return math.cos(math.pi / 2 * time), math.sin(math.pi / 2 * time)


def dpm_solver(
    x: Tensor, clean: Tensor, last: Last, now: tuple[float, float], then: tuple[float, float]
) -> tuple[Tensor, Last]:
    """x at `then`, if the predicted data go on as between the last two predictions.

    `now` and `then` are shares of data and noise; predictions are taken as linear in the logarithm
    of their ratio.  The step that ends in clean data is of first order.
    """
    (data, noise), (data_then, noise_then) = now, then
    here, guess = log_ratio(now), clean
    if last is not None and noise_then > 0:
        before, there = last
        guess = clean + (log_ratio(then) - here) / (2 * (here - there)) * (clean - before)
    kept = noise_then / noise
    return kept * x + (data_then - kept * data) * guess, (clean, here)


def log_ratio(shares: tuple[float, float]) -> float:
    """The logarithm of the ratio of data to noise; -inf for pure noise, up to rounding."""
    data, noise = shares
    return math.log(data / noise) if data > 1e-12 else -math.inf
