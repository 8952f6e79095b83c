"""What every simulator looks like to demonstrations, evaluation and the faithfulness suite.

Arrays: an image is uint8 [H, W, 3]; the state and an action are float32 vectors in the units
named by the specification. An observation uses the keys of `wmdsl.data.keys`, so that a stream
binds to a dataset and to a simulator by one name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wmdsl.diagnostics.problem import Problem

if TYPE_CHECKING:
    import numpy as np

# A goal site is one or two pixels wide at 64 pixels: render at twice the size, average down.
SUPERSAMPLE = 2


class UnknownEnvironment(Problem):
    """No suite or task has this name; the help offers the nearest one."""

    def __init__(self, what: str, where: str, help: str) -> None:
        super().__init__("WM865", what, where, help)

    def __reduce__(self) -> tuple[type[UnknownEnvironment], tuple[str, str, str]]:
        return type(self), (self.what, self.where, self.help)


class EnvironmentUnavailable(Problem):
    """The simulator cannot run here; the help says what to install."""

    def __init__(self, what: str, where: str, help: str) -> None:
        super().__init__("WM866", what, where, help)

    def __reduce__(self) -> tuple[type[EnvironmentUnavailable], tuple[str, str, str]]:
        return type(self), (self.what, self.where, self.help)


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """The facts of one task that a spec, a dataset and an evaluation must agree on.

    `control_hz` is the rate of actions; `action_low` and `action_high` bound each of
    `action_names`; `max_steps` counts control steps.
    """

    name: str
    control_hz: int
    cameras: tuple[str, ...]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    max_steps: int
    instruction: str

    @property
    def action_dim(self) -> int:
        return len(self.action_names)


class Environment(ABC):
    """One task of one simulator, stepped at its control rate.

    An observation of `reset` and `step` holds the state and the instruction; images are
    rendered on request only, because they cost ten times what a step costs.
    """

    spec: EnvironmentSpec

    @abstractmethod
    def reset(self, seed: int) -> dict[str, Any]:
        """Start the episode that `seed` alone determines and return its first observation."""

    @abstractmethod
    def step(self, action: np.ndarray) -> tuple[dict[str, Any], bool, bool]:
        """Apply one action [A], clipped to its range: (observation, success, done).

        `success` is that of this step; `done` says that `max_steps` is reached.
        Raises ValueError for a wrong shape or a value that is not finite.
        """

    @abstractmethod
    def render(self, camera: str, size: int) -> np.ndarray:
        """The present image of a camera, uint8 [size, size, 3], upright as a human sees it."""

    @abstractmethod
    def expert_action(self) -> np.ndarray:
        """What the scripted expert does now, float32 [A], clipped to the action range."""

    @abstractmethod
    def save_state(self) -> Any:
        """A snapshot from which `restore_state` continues bitwise equal."""

    @abstractmethod
    def restore_state(self, state: Any) -> dict[str, Any]:
        """Return to a snapshot of this environment and give the observation there."""

    @abstractmethod
    def close(self) -> None:
        """Free the simulator."""
