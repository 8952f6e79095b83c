"""A weight map: which tensors of a checkpoint become which weights of a part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wmdsl.weights import errors
from wmdsl.weights.named import Named
from wmdsl.weights.report import PartReport

Change = Callable[[Tensor], Tensor]


def unchanged(x: Tensor) -> Tensor:
    return x


@dataclass(slots=True)
class Mapped:
    """Weights of a part by their names in the module, made of those of a checkpoint."""

    given: Mapping[str, Tensor]
    found: dict[str, Tensor] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, target: str, *sources: str, change: Change = unchanged) -> None:
        """One weight from one tensor, or from several laid side by side; `change` turns each."""
        self.take_each(target, *((name, change) for name in sources))

    def take_each(self, target: str, *sources: tuple[str, Change]) -> None:
        """As `take`, with a change of its own for each tensor."""
        missing = [name for name, _ in sources if name not in self.given]
        if missing:
            self.absent += missing
            return
        self.used.update((name, None) for name, _ in sources)
        self.found[target] = torch.cat([change(self.given[name]) for name, change in sources])

    def has(self, name: str) -> bool:
        return name in self.given

    @torch.no_grad()
    def fill(self, named: Named, part: nn.Module) -> PartReport:
        """Copy what was found; WeightsError where a shape differs or a wanted tensor is absent."""
        own = dict(part.named_parameters())
        wrong = [
            f"{name} is {list(own[name].shape)} in the spec, {list(value.shape)} in it"
            for name, value in self.found.items()
            if name in own and own[name].shape != value.shape
        ]
        wrong += [f"it lacks {name}" for name in self.absent]
        wrong += [f"the trunk has no {name}" for name in self.found if name not in own]
        if wrong:
            raise errors.misfit(named, wrong)
        for name, value in self.found.items():
            own[name].copy_(value)
        missing = tuple(name for name in own if name not in self.found)
        unused = tuple(name for name in self.given if name not in self.used)
        return PartReport(
            named.title, named.hub, tuple(self.used), missing, unused, tuple(self.notes)
        )
