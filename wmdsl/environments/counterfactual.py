"""What other actions would have done: the same simulator state, continued by several sequences.

A situation is a moment of an expert episode on an evaluation seed. Its state is restored exactly
before each sequence, so that whatever differs afterwards is due to the actions.

Shape suffixes: T control steps, A action, D state, H W image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wmdsl.data import keys
from wmdsl.environments.base import Environment, EnvironmentSpec
from wmdsl.environments.seeds import Purpose, episode_seed

SPAN_SECONDS = 0.2  # how long a random action is held
FIXED = ("expert", "negated", "permuted", "zero")
LATEST_START = 48  # control steps into the episode


@dataclass(frozen=True, slots=True)
class Filming:
    """What is filmed: control steps by camera, relative to the situation, at one image size.

    `history` control steps before the situation are kept at least.
    """

    rows: Mapping[str, tuple[int, ...]]
    size: int
    history: int = 0

    @property
    def before(self) -> int:
        """Control steps before the situation that are filmed or kept."""
        filmed = min((row for rows in self.rows.values() for row in rows), default=0)
        return max(self.history, -filmed)


@dataclass(frozen=True, slots=True)
class Track:
    """One sequence: states before, between and after the actions, images by (camera, row)."""

    name: str
    actions: np.ndarray  # [T, A]
    states: np.ndarray  # [history + T + 1, D]
    images: Mapping[tuple[str, int], np.ndarray]
    before: np.ndarray  # actions that led to the situation [history, A]

    @property
    def history(self) -> int:
        """Control steps before the situation that are known."""
        return len(self.before)

    def action(self, row: int) -> np.ndarray:
        """The action [A] begun `row` control steps after the situation, held at the ends."""
        known = np.concatenate([self.before, self.actions])
        return known[np.clip(row + self.history, 0, len(known) - 1)]

    def state(self, row: int) -> np.ndarray:
        """The state [D] `row` control steps after the situation, held at the ends."""
        return self.states[np.clip(row + self.history, 0, len(self.states) - 1)]


@dataclass(frozen=True, slots=True)
class Situation:
    """All tracks that leave one state; `difference` is that of a second roll of the first."""

    environment: str
    instruction: str
    seed: int
    start: int
    tracks: tuple[Track, ...]
    difference: float


def sequence_names(random: int) -> tuple[str, ...]:
    """Names of the sequences in their order."""
    return (*FIXED, *(f"random {number + 1}" for number in range(random)))


def situation(
    environment: Environment, base: int, number: int, steps: int, filming: Filming, random: int = 2
) -> Situation:
    """Situation `number` of the evaluation seeds of `base`, rolled for `steps` control steps."""
    seed = episode_seed(Purpose.EVALUATION, base, number)
    draws = np.random.default_rng([seed, 2])
    start = filming.before + int(draws.integers(LATEST_START))
    before = _approach(environment, seed, start, filming)
    snapshot = environment.save_state()
    expert = _follow(environment, before, "expert", steps, filming)
    tracks = [expert]
    for name, actions in _alternatives(environment.spec, expert.actions, random, draws):
        environment.restore_state(snapshot)
        tracks.append(_follow(environment, before, name, steps, filming, actions))
    environment.restore_state(snapshot)
    again = _follow(environment, before, "expert", steps, filming, expert.actions)
    spec = environment.spec
    difference = _difference(expert, again)
    return Situation(spec.name, spec.instruction, seed, start, tuple(tracks), difference)


@dataclass(frozen=True, slots=True)
class _Before:
    """What was seen up to the situation."""

    observation: Mapping[str, object]
    states: list[np.ndarray]
    images: dict[tuple[str, int], np.ndarray]
    actions: np.ndarray


def _approach(environment: Environment, seed: int, start: int, filming: Filming) -> _Before:
    """Let the expert act until the situation; keep its history."""
    observation = environment.reset(seed)
    states, done, images = [], [], {}
    for row in range(-start, 0):
        action = environment.expert_action()
        if row >= -filming.before:
            images |= _film(environment, filming, row)
            states.append(observation[keys.STATE])
            done.append(action)
        observation, _, _ = environment.step(action)
    actions = np.array(done, np.float32).reshape(len(done), environment.spec.action_dim)
    return _Before(observation, states, images, actions)


def _follow(
    environment: Environment,
    before: _Before,
    name: str,
    steps: int,
    filming: Filming,
    actions: np.ndarray | None = None,
) -> Track:
    """Roll a sequence from the present state; without actions the expert acts."""
    states, done, images = [before.observation[keys.STATE]], [], dict(before.images)
    for row in range(steps):
        images |= _film(environment, filming, row)
        action = environment.expert_action() if actions is None else actions[row]
        observation, _, _ = environment.step(action)
        states.append(observation[keys.STATE])
        done.append(action)
    images |= _film(environment, filming, steps)
    path = np.stack([*before.states, *states])
    return Track(name, np.stack(done), path, images, before.actions)


def _film(
    environment: Environment, filming: Filming, row: int
) -> dict[tuple[str, int], np.ndarray]:
    return {
        (camera, row): environment.render(camera, filming.size)
        for camera, rows in filming.rows.items()
        if row in rows
    }


def _alternatives(
    spec: EnvironmentSpec, expert: np.ndarray, random: int, draws: np.random.Generator
) -> list[tuple[str, np.ndarray]]:
    """The other sequences [T, A] by name."""
    low, high = np.float32(spec.action_low), np.float32(spec.action_high)
    found = [
        ("negated", np.clip(-expert, low, high)),
        ("permuted", draws.permutation(expert)),
        ("zero", np.zeros_like(expert)),
    ]
    span = max(1, round(spec.control_hz * SPAN_SECONDS))
    for name in sequence_names(random)[len(FIXED) :]:
        held = draws.uniform(low, high, (-(-len(expert) // span), len(low)))
        found.append((name, held.repeat(span, 0)[: len(expert)].astype(np.float32)))
    return found


def _difference(first: Track, second: Track) -> float:
    """The largest difference of two rolls, in units of the state or grey levels of 0..255."""
    images = [
        np.abs(first.images[place].astype(int) - second.images[place].astype(int)).max()
        for place in first.images
    ]
    return float(max([np.abs(first.states - second.states).max(), *images]))


def row_union(rows: Sequence[int], boundaries: Sequence[int]) -> tuple[int, ...]:
    """All of `rows` as seen from each boundary, ascending."""
    return tuple(sorted({row + boundary for row in rows for boundary in boundaries}))
