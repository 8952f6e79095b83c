"""How a model is trained: one record, written into the run as `train.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Budget and optimizer of one run.

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

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def rate(self, step: int) -> float:
        """Learning rate of a step (from 0): linear warm-up, constant, linear decay to zero."""
        ramp = min(1.0, (step + 1) / max(self.warm_up, 1))
        left = (self.steps - step) / max(self.decay * self.steps, 1)
        return self.learning_rate * ramp * min(1.0, left)
