"""Where is the hand on this picture? A small network trained on real frames alone.

It never sees a frame of the run or of an evaluation seed; its own error on real frames of the
situations is the floor of every error that is read through it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wmdsl.data import keys
from wmdsl.environments.base import Environment
from wmdsl.environments.demonstrate import Recording, record_attempt
from wmdsl.environments.seeds import Purpose, episode_seed
from wmdsl.progress import Progress
from wmdsl.runtime import errors

HAND = ("hand_x", "hand_y", "hand_z")
EXPLORED = 0.75  # share of the spans with a random action: hands everywhere, not on one path
SEED = 7919  # a base of its own: no demonstration uses these episodes by default
CAMERA_HZ = 10
BATCH = 64


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How much the probe is trained."""

    episodes: int = 40
    steps: int = 800
    learning_rate: float = 2e-3


class Probe(nn.Module):
    """Frames [..., 3, H, W] in 0..1 to the state [..., D] in its own units, through features."""

    def __init__(self, states: int, width: int = 64):
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2, 2), nn.ReLU(),
            nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, 1, 1),
        )  # fmt: skip
        self.gather = nn.Sequential(nn.Linear(64, width), nn.ReLU())
        self.state = nn.Linear(width, states)
        self.register_buffer("mean", torch.zeros(states))
        self.register_buffer("scale", torch.ones(states))

    def features(self, frames: Tensor) -> Tensor:
        """What the answer is made of [..., width]: the frame's latent in this suite."""
        maps = self.look(2 * frames.flatten(0, -4) - 1)
        return self.gather(_centres(maps)).view(*frames.shape[:-3], -1)

    def forward(self, frames: Tensor) -> Tensor:
        return self.state(self.features(frames)) * self.scale + self.mean


def _centres(maps_BCHW: Tensor) -> Tensor:
    """Mean place of each channel's softmax, (x, y) in -1..1: [B, 2 C]."""
    height, width = maps_BCHW.shape[-2:]
    weight = maps_BCHW.flatten(2).softmax(-1).view(maps_BCHW.shape)
    x = (weight.sum(2) * torch.linspace(-1, 1, width)).sum(-1)
    y = (weight.sum(3) * torch.linspace(-1, 1, height)).sum(-1)
    return torch.cat([x, y], dim=1)


def train_probe(
    environments: list[Environment],
    camera: str,
    size: int,
    settings: ProbeSettings,
    progress: bool,
) -> Probe:
    """A probe for the state on frames of `camera`, trained on exploring episodes of its own."""
    frames, states = _examples(environments, camera, size, settings, progress)
    torch.manual_seed(SEED)
    probe = Probe(states.shape[1])
    probe.mean.copy_(states.mean(0))
    probe.scale.copy_(states.std(0).clamp_min(1e-6))
    target = (states - probe.mean) / probe.scale
    optimizer = torch.optim.Adam(probe.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    draws = torch.Generator().manual_seed(SEED)
    with Progress(progress, "training the probe", settings.steps) as bar:
        for _ in range(settings.steps):
            chosen = torch.randint(len(frames), (BATCH,), generator=draws)
            seen = probe.features(frames[chosen].float() / 255)
            loss = functional.mse_loss(probe.state(seen), target[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.advance(loss=float(loss.detach()))
    return probe.eval().requires_grad_(False)


def _examples(
    environments: list[Environment],
    camera: str,
    size: int,
    settings: ProbeSettings,
    progress: bool,
) -> tuple[Tensor, Tensor]:
    """Frames uint8 [M, 3, H, W] and the states [M, D] they show."""
    hz = environments[0].spec.control_hz
    rate = max(rate for rate in range(1, CAMERA_HZ + 1) if hz % rate == 0)
    recording = Recording(SEED, (camera,), rate, size, 2, 0, EXPLORED)
    frames, states = [], []
    with Progress(progress, "frames for the probe", settings.episodes * len(environments)) as bar:
        for environment in environments:
            for number in range(settings.episodes):
                seed = episode_seed(Purpose.DEMONSTRATION, SEED, number)
                rows = record_attempt(environment, seed, recording)
                frames.append(rows[keys.image_key(camera)])
                states.append(rows[keys.STATE][:: hz // rate])
                bar.advance()
    pictures = torch.from_numpy(np.concatenate(frames)).permute(0, 3, 1, 2).contiguous()
    return pictures, torch.from_numpy(np.concatenate(states))


def hand_places(environment: Environment) -> list[int]:
    """Where the hand's coordinates stand in the state."""
    names = environment.spec.state_names
    if not set(HAND) <= set(names):
        raise errors.environment_misfit(
            f"its state names no {', '.join(HAND)}", environment.spec.name,
            "name the hand's coordinates so in the environment's specification",
        )  # fmt: skip
    return [names.index(name) for name in HAND]
