"""EDM: x = clean + level * noise, and what lets a trunk read and put out numbers of unit size.

A level is a number or a tensor that broadcasts against x; `deviation` is that of the data.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

Level = Tensor | float


def told_level(level: Level) -> Level:
    """The time from 0 (clean) to 1 (pure noise) that stands for a level."""
    return level / (1 + level)


def scaled(x: Tensor, level: Level, deviation: float) -> Tensor:
    """What a trunk reads of a noisy x."""
    return x / (deviation**2 + level**2) ** 0.5


def denoised(x: Tensor, output: Tensor, level: Level, deviation: float) -> Tensor:
    """The clean data that a head's output implies."""
    total = deviation**2 + level**2
    return deviation**2 / total * x + level * deviation / total**0.5 * output


def edm_weight(level: Level, deviation: float) -> Level:
    """The weight under which every level asks an error of unit size of the head."""
    return (deviation**2 + level**2) / (deviation * level) ** 2


def descending_levels(
    steps: int, low: float, high: float, stop: float = 0.0
) -> list[tuple[float, float]]:
    """(now, then) from `high` to `low` and then to `stop`, even in the seventh root."""
    last = max(low, stop)
    ends = high ** (1 / 7), last ** (1 / 7)
    count = steps if stop < low else steps + 1
    levels = [
        (ends[0] + (ends[1] - ends[0]) * step / max(count - 1, 1)) ** 7 for step in range(count)
    ]
    if stop < low:
        levels.append(stop)
    return list(pairwise(levels))
