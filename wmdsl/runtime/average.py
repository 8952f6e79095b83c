"""Exponential moving average of the weights: what is evaluated and saved as the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Averaged copies of all floating-point parameters; buffers are taken as they are.

    The share kept grows from 0.1 to `rate`, so that a short run does not average its first steps.
    """

    def __init__(self, module: nn.Module, rate: float) -> None:
        self.rate = rate
        self.values = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        rate = min(self.rate, (1 + step) / (10 + step))
        own = [self.values[name] for name, _ in module.named_parameters()]
        torch._foreach_lerp_(own, [value.detach() for value in module.parameters()], 1 - rate)

    def state_dict(self) -> dict[str, Tensor]:
        return self.values

    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.values[name].copy_(value)

    def weights(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's state dict with averaged parameters."""
        return {**module.state_dict(), **self.values}
