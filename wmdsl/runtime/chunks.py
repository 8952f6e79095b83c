"""The answers of an episode that still speak of steps to come, and what they say together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Chunk(NamedTuple):
    """Actions [steps, A] from the control step on at which they were asked for."""

    asked: int
    actions: np.ndarray

    def at(self, step: int) -> np.ndarray:
        return self.actions[step - self.asked]

    @property
    def end(self) -> int:
        return self.asked + len(self.actions)


class Chunks:
    """Chunks in the order in which they were asked for.

    With `decay` an action is the mean of all chunks that speak of its step: the oldest weighs 1,
    and each later one exp(-decay) times the one before it.  Without, the newest chunk decides.
    """

    def __init__(self, decay: float | None = None) -> None:
        self._decay = decay
        self._known: list[Chunk] = []

    def add(self, asked: int, actions: np.ndarray) -> None:
        """A new answer, which was asked for later than all before it."""
        self._known.append(Chunk(asked, actions))

    @property
    def newest(self) -> int:
        """The control step at which the newest chunk was asked for."""
        return self._known[-1].asked

    def actions(self, step: int, count: int) -> np.ndarray:
        """The actions [count, A] of the control steps from `step` on; earlier ones are dropped."""
        self._known = [chunk for chunk in self._known if chunk.end > step]
        return np.stack([self._at(at) for at in range(step, step + count)])

    def _at(self, step: int) -> np.ndarray:
        if self._decay is None:
            return self._known[-1].at(step)
        said = np.stack([chunk.at(step) for chunk in self._known if chunk.end > step])
        weights = np.exp(-self._decay * np.arange(len(said)))
        return (weights / weights.sum() @ said).astype(np.float32)
