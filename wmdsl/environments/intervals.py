"""How sure a success rate is."""

from __future__ import annotations

from math import sqrt

Z_95 = 1.959964


def wilson_interval(successes: int, episodes: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a rate, at 95 % by default: (low, high) in 0..1."""
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ValueError(f"{successes} of {episodes} is no rate")
    rate = successes / episodes
    scale = 1 + z * z / episodes
    centre = (rate + z * z / (2 * episodes)) / scale
    half = z * sqrt(rate * (1 - rate) / episodes + z * z / (4 * episodes**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)
