"""A simulator small enough to be checked by hand: a dot on a table that actions move."""

from __future__ import annotations

import numpy as np
import torch

from wmdsl.data import keys
from wmdsl.environments.base import Environment, EnvironmentSpec

SIZE, STEP = 16, 0.006
SPEC = EnvironmentSpec(
    name="dots/go", control_hz=40, cameras=("top",), state_names=("hand_x", "hand_y", "hand_z"),
    action_names=("dx", "dy"), action_low=(-1.0, -1.0), action_high=(1.0, 1.0), max_steps=200,
    instruction="go",
)  # fmt: skip


def moved(place, action):
    """Where the dot is after one action."""
    return np.clip(place + STEP * np.clip(action, -1, 1), 0.0, 1.0).astype(np.float32)


def drawn(place):
    """The table with the dot, uint8 [16, 16, 3]."""
    grid = (np.arange(SIZE) + 0.5) / SIZE
    bump = np.exp(-(((grid[None] - place[0]) ** 2 + (grid[:, None] - place[1]) ** 2) / 0.01))
    return (255 * bump[..., None] * np.array([1.0, 0.5, 0.2])).astype(np.uint8)


class DotWorld(Environment):
    """The expert walks to (0.9, 0.9), faster and slower."""

    spec = SPEC

    def __init__(self, forgetful=False):
        self.forgetful = forgetful  # restores a wrong state, to be caught
        self.place, self.steps = np.zeros(2, np.float32), 0

    def reset(self, seed):
        self.place = np.random.default_rng(seed).uniform(0.2, 0.4, 2).astype(np.float32)
        self.steps = 0
        return self._observation()

    def step(self, action):
        self.place, self.steps = moved(self.place, action), self.steps + 1
        success = bool(np.abs(self.place - 0.9).max() < 0.03)
        return self._observation(), success, self.steps >= SPEC.max_steps

    def render(self, camera, size):
        assert (camera, size) == ("top", SIZE)
        return drawn(self.place)

    def expert_action(self):
        speed = np.array([1, 0.6 + 0.4 * np.cos(self.steps / 3)])
        return (speed * np.clip((0.9 - self.place) / STEP, -1, 1)).astype(np.float32)

    def save_state(self):
        return self.place.copy(), self.steps

    def restore_state(self, state):
        self.place, self.steps = state[0].copy(), state[1]
        if self.forgetful:
            self.place = self.place + 0.1
        return self._observation()

    def close(self):
        pass

    def _observation(self):
        return {keys.STATE: np.append(self.place, 0).astype(np.float32), keys.TASK: "go"}


class Oracle:
    """A module whose world query knows the law of the dot; `obedient` or deaf to the actions."""

    def __init__(self, plan, obedient=True):
        self.plan, self.obedient = plan, obedient
        self.asked = []

    def query(self, name, batch, generator=None):
        self.asked.append(name)
        if name == "inverse":
            start, end = (located(batch["top"][:, at]) for at in (0, 1))
            return {"action": ((end - start) / (4 * STEP))[:, None].expand(-1, 4, -1)}
        places = located(batch["top"][:, -1]).numpy()
        actions = batch["action"].numpy()
        if not self.obedient:
            actions = 0 * actions + np.asarray([1.0, 0.0], np.float32)
        frames = []
        for place, chunk in zip(places, actions, strict=True):
            for action in chunk:
                place = moved(place, action)
            frames.append(drawn(place))
        noise = 0.02 * torch.randn(len(frames), 1, 3, SIZE, SIZE, generator=generator)
        pictures = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
        return {"top": (pictures[:, None] + noise).clamp(0, 1)}


def located(frames_B3HW):
    """The dot of each frame [B, 2], by the centre of its light."""
    light = frames_B3HW[:, 0].clamp_min(0.2) - 0.2
    grid = (torch.arange(SIZE) + 0.5) / SIZE
    total = light.sum((1, 2))
    x, y = (light.sum(1) * grid).sum(1) / total, (light.sum(2) * grid).sum(1) / total
    return torch.stack([x, y], 1)


