"""Which samples make the next batch: a function of the seed and of how much was drawn before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


class Sampler(Iterator[list[np.ndarray]]):
    """Endless batches of indices by source: every epoch of a source is a fresh permutation.

    Each element of a batch is from source s with probability weights[s] / sum(weights).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        seed: int,
        weights: Sequence[float],
    ) -> None:
        """`sizes` are the numbers of samples by source.

        Raises ValueError for an empty source or a weight that is not positive.
        """
        if min(sizes) < 1 or min(weights) <= 0 or batch_size < 1:
            raise ValueError(f"sizes {sizes}, weights {weights}, batch {batch_size} must be > 0")
        self._sizes = tuple(sizes)
        self._shares = np.asarray(weights, dtype=np.float64) / sum(weights)
        self._batch_size = batch_size
        self._seed = seed
        self._step = 0
        self._positions = [0] * len(self._sizes)
        self._permutations: dict[int, tuple[int, np.ndarray]] = {}

    def __next__(self) -> list[np.ndarray]:
        """The next batch: indices by source, int64, `batch_size` in all."""
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
                f"the state is of {len(state['positions'])} sources, this sampler has "
                f"{len(self._sizes)}"
            )
        self._seed = state["seed"]
        self._step = state["step"]
        self._positions = list(state["positions"])
        self._permutations.clear()

    def _take(self, source: int, count: int) -> np.ndarray:
        size = self._sizes[source]
        positions = self._positions[source] + np.arange(count)
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
