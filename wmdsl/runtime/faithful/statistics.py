"""Numbers with their uncertainty. The unit that is drawn again is a situation, never a frame.

Shape suffixes: N situations, K sequences, C horizons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> list[float]:
        """[value, low, high]"""
        return [self.value, self.low, self.high]

    def above(self, other: Estimate) -> bool:
        """Whether the whole interval lies above the other's."""
        return self.low > other.high


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> Estimate:
    """The mean over situations [N] with its percentile interval."""
    return bootstrap_ratio(values, np.ones_like(values), seed)


def bootstrap_ratio(above: np.ndarray, below: np.ndarray, seed: int = 0) -> Estimate:
    """sum(above) / sum(below) over situations [N], both drawn together."""
    above, below = np.asarray(above, float), np.asarray(below, float)
    order = np.random.default_rng(seed).integers(len(above), size=(RESAMPLES, len(above)))
    drawn = above[order].sum(1) / below[order].sum(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(above.sum() / below.sum()), float(low), float(high))


def retrieval(distance_NKK: np.ndarray) -> np.ndarray:
    """Credit [N, K] of each imagined roll k for being nearest to its own truth.

    `distance_NKK[n, i, j]` compares the roll of sequence i with the truth of sequence j. Where m
    truths are equally near, the own one among them, the credit is 1 / m: chance gives 1 / K.
    """
    nearest = distance_NKK.min(-1, keepdims=True)
    tied = distance_NKK <= nearest
    own = np.diagonal(tied, axis1=1, axis2=2)
    return own / tied.sum(-1)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 of a vector [K]; equal values share their mean rank."""
    lower = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return lower + (equal + 1) / 2


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two vectors [K]; 0 where one of them is constant."""
    x, y = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale else 0.0


def spread(values_NKD: np.ndarray) -> np.ndarray:
    """Mean distance [N] between the vectors of different sequences of a situation."""
    count = values_NKD.shape[1]
    apart = np.linalg.norm(values_NKD[:, :, None] - values_NKD[:, None], axis=-1)
    return apart.sum((1, 2)) / (count * (count - 1))


def first_beyond(curve: np.ndarray, horizons: np.ndarray, threshold: float) -> float | None:
    """The first horizon at which a curve [C] lies above the threshold; None if it never does."""
    found = np.flatnonzero(np.asarray(curve) > threshold)
    return float(horizons[found[0]]) if len(found) else None
