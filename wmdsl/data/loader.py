"""Batches without end from one dataset or a weighted mixture, resumable bitwise.

What is drawn is a function of the seed and of how much was drawn before, so the state is a
handful of integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wmdsl.data import errors, keys
from wmdsl.data.lerobot import DatasetInfo
from wmdsl.data.windows import Shifts, Window, WindowedDataset


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset of a mixture: its folder, what each stream reads there, and its share."""

    root: Path
    windows: tuple[Window, ...]
    weight: float = 1.0


class Sampler:
    """Draws anchor indices: a fresh permutation of each source every epoch."""

    def __init__(
        self, sizes: Sequence[int], batch_size: int, seed: int, weights: Sequence[float]
    ) -> None:
        """`sizes` and `weights` are by source; a weight is the share of a batch on average.

        Raises ValueError for an empty source or weights that are not positive.
        """
        if min(sizes) < 1 or min(weights) <= 0 or batch_size < 1:
            raise ValueError(f"sizes {sizes}, weights {weights}, batch {batch_size} must be > 0")
        self._sizes = tuple(sizes)
        self._shares = np.asarray(weights, dtype=np.float64) / sum(weights)
        self._batch_size = batch_size
        self._seed = seed
        self._step = 0
        self._positions = [0] * len(sizes)
        self._permutations: dict[int, tuple[int, np.ndarray]] = {}

    def draw(self) -> list[np.ndarray]:
        """The next batch: anchor indices by source, int64, `batch_size` in all."""
        generator = np.random.default_rng([self._seed, 0, self._step])
        counts = generator.multinomial(self._batch_size, self._shares)
        self._step += 1
        return [self._take(source, int(count)) for source, count in enumerate(counts)]

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on; plain integers."""
        return {"seed": self._seed, "step": self._step, "positions": list(self._positions)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises ValueError for another mixture."""
        if len(state["positions"]) != len(self._sizes):
            raise ValueError(
                f"the state is of {len(state['positions'])} datasets, this run has "
                f"{len(self._sizes)}"
            )
        self._seed = state["seed"]
        self._step = state["step"]
        self._positions = list(state["positions"])
        self._permutations.clear()

    def _take(self, source: int, count: int) -> np.ndarray:
        size = self._sizes[source]
        positions = np.arange(self._positions[source], self._positions[source] + count)
        self._positions[source] += count
        chosen = np.empty(count, dtype=np.int64)
        for epoch in np.unique(positions // size):
            within = positions // size == epoch
            chosen[within] = self._permutation(source, int(epoch))[positions[within] % size]
        return chosen

    def _permutation(self, source: int, epoch: int) -> np.ndarray:
        if self._permutations.get(source, (-1,))[0] != epoch:
            generator = np.random.default_rng([self._seed, 1, source, epoch])
            self._permutations[source] = (epoch, generator.permutation(self._sizes[source]))
        return self._permutations[source][1]


class Loader:
    """Batches of a mixture. A stream that a source lacks is zero and invalid in its samples."""

    def __init__(
        self,
        sources: Sequence[Source],
        batch_size: int,
        *,
        seed: int = 0,
        shift_pixels: int = 0,
        cache: Path | None = None,
    ) -> None:
        """Load all sources; each must give every stream windows of the same length.

        `shift_pixels` bounds the random shifts of cameras. Raises DataError where a stream
        is in no source, or has different shapes in two.
        """
        windows = _agreed_windows(sources)
        self.datasets = tuple(
            WindowedDataset(source.root, own, cache=cache)
            for source, own in zip(sources, windows, strict=True)
        )
        self.sampler = Sampler(
            [len(dataset) for dataset in self.datasets],
            batch_size,
            seed,
            [source.weight for source in sources],
        )
        self._shift_pixels = shift_pixels

    def next_batch(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The next batch, as of `WindowedDataset.batch`; `generator` draws the shifts."""
        shifts = Shifts(self._shift_pixels, generator) if self._shift_pixels else None
        parts = [
            dataset.batch(indices, shifts)
            for dataset, indices in zip(self.datasets, self.sampler.draw(), strict=True)
            if len(indices)
        ]
        if len(parts) == 1:
            return parts[0]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def state_dict(self) -> dict[str, Any]:
        """The state of the sampler; the generator's is its owner's to keep."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.sampler.load_state_dict(state)


def _agreed_windows(sources: Sequence[Source]) -> list[tuple[Window, ...]]:
    """Windows by source, with one shape per stream taken from the sources that have it."""
    shapes: dict[str, tuple[int, ...]] = {}
    for source in sources:
        info = DatasetInfo.read(source.root)
        for window in source.windows:
            shape = window.shape or _stored_shape(info, window)
            if shape is not None:
                _check_agreement(window, shape, shapes, source.root)
    _check_lengths(sources)
    return [
        tuple(
            replace(w, shape=shapes.get(w.stream), optional=w.optional or w.stream in shapes)
            for w in source.windows
        )
        for source in sources
    ]


def _stored_shape(info: DatasetInfo, window: Window) -> tuple[int, ...] | None:
    if window.key not in info.features:
        return None
    feature = info.features[window.key]
    return feature.image_shape if feature.is_camera else feature.shape


def _check_agreement(
    window: Window, shape: tuple[int, ...], shapes: dict[str, tuple[int, ...]], root: Path
) -> None:
    if shapes.setdefault(window.stream, shape) != shape:
        raise errors.wrong_shape(window.key, shape, shapes[window.stream], root)


def _check_lengths(sources: Sequence[Source]) -> None:
    if len(sources) > 1 and any(
        window.key == keys.TASK and window.shape is None
        for source in sources
        for window in source.windows
    ):
        raise errors.empty(
            "the length of an instruction is open in a mixture",
            sources[0].root,
            "give the window of the text a shape",
        )
    counts = [{w.stream: len(w.offsets) for w in source.windows} for source in sources]
    for source, own in zip(sources[1:], counts[1:], strict=True):
        if own != counts[0]:
            raise errors.wrong_shape("the windows", own, counts[0], source.root)
