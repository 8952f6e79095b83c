"""Statistics of features, as LeRobot writes them: exact for vectors, sampled for images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_PIXEL_VALUES = np.arange(256) / 255.0

Statistics = dict[str, np.ndarray]


def vector_statistics(rows: np.ndarray) -> Statistics:
    """Statistics per component of rows [N, D] (or [N]); each value has shape [D]."""
    rows = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([len(rows)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


class PixelHistogram:
    """Exact statistics of uint8 images per channel, in constant memory."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256), dtype=np.int64)
        self._images = 0

    def add(self, images: np.ndarray, repeats: Sequence[int] | None = None) -> None:
        """Count images [N, H, W, 3], each as often as `repeats` says (once by default)."""
        repeats = [1] * len(images) if repeats is None else repeats
        for image, repeat in zip(images, repeats, strict=True):
            for channel in range(3):
                values = np.bincount(image[..., channel].ravel(), minlength=256)
                self._counts[channel] += repeat * values
            self._images += repeat

    def merge(self, other: PixelHistogram) -> None:
        """Add what another histogram has counted."""
        self._counts += other._counts
        self._images += other._images

    def statistics(self) -> Statistics:
        """Statistics in the range 0..1, each of shape [3, 1, 1], count [1] in images."""
        per_channel = [self._channel(counts) for counts in self._counts]
        names = per_channel[0].keys()
        found = {
            name: np.array([values[name] for values in per_channel]).reshape(3, 1, 1)
            for name in names
        }
        return {**found, "count": np.array([self._images])}

    @staticmethod
    def _channel(counts: np.ndarray) -> dict[str, float]:
        total = counts.sum()
        mean = float(counts @ _PIXEL_VALUES / total)
        variance = float(counts @ np.square(_PIXEL_VALUES - mean) / total)
        present = np.flatnonzero(counts)
        cumulative = np.cumsum(counts)
        quantiles = {
            name: _PIXEL_VALUES[np.searchsorted(cumulative, share * total)]
            for name, share in QUANTILES.items()
        }
        return {
            "min": _PIXEL_VALUES[present[0]],
            "max": _PIXEL_VALUES[present[-1]],
            "mean": mean,
            "std": variance**0.5,
            **quantiles,
        }
