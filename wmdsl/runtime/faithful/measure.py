"""Roll-outs against the truth: one number per situation and horizon, then estimates.

Shape suffixes: N situations, K sequences, C horizons, D state, L latent, A action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wmdsl.runtime.faithful.probe import Probe
from wmdsl.runtime.faithful.rollouts import RollOut
from wmdsl.runtime.faithful.statistics import (
    Estimate,
    bootstrap_mean,
    bootstrap_ratio,
    first_beyond,
    rank_correlation,
    retrieval,
    spread,
)

ERRORS = ("image", "latent", "hand", "retrieval", "retrieval_hand", "inverse")


@dataclass(frozen=True, slots=True)
class Seen:
    """Frames [N, K, C, pixels] and what the probe reads off them: latents and hands in metres."""

    frames: np.ndarray
    latents: np.ndarray
    hands: np.ndarray


@dataclass(frozen=True, slots=True)
class Truth:
    """The simulator's frames as seen, and its own hand [N, K, C, 3] and actions [N, K, C, T, A]."""

    seen: Seen
    hands: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True, slots=True)
class Measured:
    """Values per situation: `curves` [N, C] by name, `pairs` (above, below) of ratios [N, C],
    `correlation` [N].
    """

    curves: Mapping[str, np.ndarray]
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]
    correlation: np.ndarray


@torch.inference_mode()
def see(probe: Probe, roll: RollOut, places: Sequence[int], situations: int) -> Seen:
    """What the suite compares: pixels, the probe's features, the hand as the probe reads it."""
    frames = roll.frames.clamp(0, 1)
    parts = [
        (probe.features(part), probe(part)[..., list(places)]) for part in frames.split(64)
    ]
    latents = torch.cat([latent for latent, _ in parts])
    hands = torch.cat([hand for _, hand in parts])
    found = (frames.flatten(2), latents, hands)
    return Seen(*(values.unflatten(0, (situations, -1)).numpy() for values in found))


def measure(
    seen: Seen, truth: Truth, recovered: np.ndarray | None = None, again: Seen | None = None
) -> Measured:
    """A system against the truth; `again` is the same roll under other noise."""
    curves = {
        "image": np.abs(seen.frames - truth.seen.frames).mean(-1).mean(1),
        "latent": _distance(seen.latents, truth.seen.latents).mean(1),
        "hand": _distance(seen.hands, truth.hands).mean(1),
        "retrieval": _retrieval(_image_distance(seen.frames, truth.seen.frames)),
        "retrieval_hand": _retrieval(_cross(seen.hands, truth.hands)),
    }
    if recovered is not None:
        curves["inverse"] = np.abs(recovered - truth.actions).mean((1, 3, 4))
    pairs = {"spread": (_spread(seen.hands), _spread(truth.hands))}
    if again is not None:
        same = _distance(seen.latents, again.latents).mean(1)
        pairs["sensitivity"] = (_spread(seen.latents), same)
    return Measured(curves, pairs, _correlation(seen.hands, truth.hands))


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(first - second, axis=-1)


def _cross(imagined_NKCX: np.ndarray, truth_NKCX: np.ndarray) -> np.ndarray:
    """Distances of every roll to every truth, by horizon [C, N, K, K]."""
    apart = imagined_NKCX[:, :, None] - truth_NKCX[:, None]
    return np.moveaxis(np.linalg.norm(apart, axis=-1), -1, 0)


def _image_distance(imagined_NKCX: np.ndarray, truth_NKCX: np.ndarray) -> np.ndarray:
    """The same for pictures, by mean absolute difference, one truth at a time."""
    by_truth = [
        np.abs(imagined_NKCX - truth_NKCX[:, k : k + 1]).mean(-1)
        for k in range(truth_NKCX.shape[1])
    ]
    return np.moveaxis(np.stack(by_truth, 2), -1, 0)


def _retrieval(distance_CNKK: np.ndarray) -> np.ndarray:
    return np.stack([retrieval(one).mean(1) for one in distance_CNKK], 1)


def _spread(values_NKCX: np.ndarray) -> np.ndarray:
    return np.stack([spread(values_NKCX[:, :, c]) for c in range(values_NKCX.shape[2])], 1)


def _correlation(imagined_NKCX: np.ndarray, truth_NKCX: np.ndarray) -> np.ndarray:
    """Rank correlation over sequences of imagined and true returns [N].

    The return is minus the mean distance of the hand to where the expert's hand ends.
    """
    goal = truth_NKCX[:, :1, -1:]
    imagined, true = (-_distance(hands, goal).mean(-1) for hands in (imagined_NKCX, truth_NKCX))
    return np.array([rank_correlation(x, y) for x, y in zip(imagined, true, strict=True)])


def summary(
    measured: Measured, rows: np.ndarray, horizons: np.ndarray, threshold: float, seed: int
) -> dict[str, object]:
    """Estimates over the situations `rows`, as JSON; what a system does not have is absent."""
    curves = {
        name: [bootstrap_mean(curve[rows, c], seed) for c in range(curve.shape[1])]
        for name, curve in measured.curves.items()
    }
    ratios = {
        name: [_ratio(above[rows, c], below[rows, c], seed) for c in range(above.shape[1])]
        for name, (above, below) in measured.pairs.items()
    }
    hand = measured.curves["hand"][rows].mean(0)
    return {
        **{name: _json(estimates) for name, estimates in (curves | ratios).items()},
        "rank_correlation": bootstrap_mean(measured.correlation[rows], seed).to_json(),
        "first_beyond": first_beyond(hand, horizons, threshold),
    }


def _ratio(above: np.ndarray, below: np.ndarray, seed: int) -> Estimate | None:
    """None where the denominator vanishes, as for a model without noise."""
    return bootstrap_ratio(above, below, seed) if (below > 0).all() else None


def _json(estimates: Sequence[Estimate | None]) -> list[list[float] | None]:
    return [None if one is None else one.to_json() for one in estimates]
