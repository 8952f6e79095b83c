"""How a model is trained: one record, written into the run as `train.json`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from wmdsl.runtime import errors

PRECISIONS = ("auto", "fp32", "bf16")
# What may change where a run is continued; all else decides what it learns.
FREE = ("steps", "log_every", "share_every", "checkpoint_every", "threads")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Budget and optimizer of one run; RunError for what cannot be.

    `decay` is the share of the steps, at the end, over which the rate falls to zero; `ema` the
    share of the averaged weights kept at each step; `blind` zeroes all images, in training and in
    evaluation, as the control that shows what sight is worth; `shuffle_actions` trains on the
    actions of other samples of the batch, as the control that shows what the world model owes to
    the actions.
    """

    steps: int = 3000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: int = 50
    decay: float = 0.5
    clip: float = 1.0
    ema: float = 0.99
    seed: int = 0
    precision: str = "auto"  # auto | fp32 | bf16; auto is bf16 on a GPU that has it
    blind: bool = False
    shuffle_actions: bool = False
    log_every: int = 50
    share_every: int = 500
    checkpoint_every: int = 500
    threads: int = 0  # 0: torch's choice; part of what makes a resumed run bitwise equal

    def __post_init__(self) -> None:
        finite = math.isfinite(self.learning_rate) and self.learning_rate > 0
        for name, holds, wanted in (
            ("steps", self.steps >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("learning_rate", finite, "a number above 0"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("warm_up", self.warm_up >= 0, "0 or more"),
            ("decay", 0 <= self.decay <= 1, "a share in 0..1"),
            ("clip", self.clip > 0, "above 0"),
            ("ema", 0 <= self.ema < 1, "a share in 0..1, below 1"),
            ("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            ("log_every", self.log_every >= 1, "at least 1"),
            ("share_every", self.share_every >= 0, "at least 1, or 0 for never"),
            ("checkpoint_every", self.checkpoint_every >= 1, "at least 1"),
            ("threads", self.threads >= 0, "0 or more"),
        ):
            if not holds:
                raise errors.out_of_range(name, getattr(self, name), wanted)

    def changed_from(self, other: TrainSettings) -> list[tuple[str, object, object]]:
        """(name, the other's, ours) of what decides what is learned and differs."""
        ours, theirs = self.to_json(), other.to_json()
        return [(n, theirs[n], ours[n]) for n in ours if n not in FREE and ours[n] != theirs[n]]

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def rate(self, step: int) -> float:
        """Learning rate of a step (from 0): linear warm-up, constant, linear decay to zero."""
        ramp = min(1.0, (step + 1) / max(self.warm_up, 1))
        left = (self.steps - step) / max(self.decay * self.steps, 1)
        return self.learning_rate * ramp * min(1.0, left)
