"""The stages of a training as spans of its steps, and the optimizer of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor, nn

from wmdsl.check.model import Model
from wmdsl.check.stages import REST
from wmdsl.plan.stages import terms_in_force
from wmdsl.runtime.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps `first` to `last` (exclusive) of a run; `stage` is "" where the spec declares none.

    `rates` are highest learning rates by part, under `rest` that of all others.
    """

    stage: str
    index: int
    first: int
    last: int
    rates: Mapping[str, float]
    data: Mapping[str, float]

    def rate(self, settings: TrainSettings, step: int, highest: float) -> float:
        """The learning rate at a step of the run; it rises and falls within the stage."""
        own = replace(settings, steps=self.last - self.first, learning_rate=highest)
        return own.rate(step - self.first)


def phases(model: Model, settings: TrainSettings) -> tuple[Phase, ...]:
    """All steps shared out over the stages in proportion to the steps that they declare.

    A stage that declares none counts as the mean of the others.  One that gets no step vanishes.
    """
    if not model.stages:
        rates = {REST: settings.learning_rate}
        return (Phase("", 0, 0, settings.steps, rates, {}),)
    ends = _ends([stage.steps for stage in model.stages.values()], settings.steps)
    found = []
    for index, stage in enumerate(model.stages.values()):
        first = ends[index - 1] if index else 0
        rates = {name: float(rate) for name, rate in stage.rates.items()}
        rates.setdefault(REST, settings.learning_rate)
        data = {name: float(share) for name, share in stage.data.items()}
        found.append(Phase(stage.name, index, first, ends[index], rates, data))
    return tuple(phase for phase in found if phase.last > phase.first)


def declared_steps(model: Model) -> int | None:
    """The steps of all stages together; None where one declares none, or there are none."""
    steps = [stage.steps for stage in model.stages.values()]
    return sum(steps) if steps and None not in steps else None


def _ends(declared: list[int | None], steps: int) -> list[int]:
    known = [count for count in declared if count is not None]
    usual = Fraction(sum(known), len(known)) if known else Fraction(1)
    counts = [usual if count is None else Fraction(count) for count in declared]
    before, ends = Fraction(0), []
    for count in counts:
        before += count
        ends.append(round(steps * before / sum(counts)))
    return ends


def phase_at(found: tuple[Phase, ...], step: int) -> Phase:
    """The phase that a step belongs to; the last one behind the end."""
    return next((phase for phase in found if step < phase.last), found[-1])


def weights_of(model: Model, stage: str) -> dict[str, float]:
    """Weights of the loss terms in force."""
    if stage:
        force = terms_in_force(model, model.stages[stage])
        return {name: float(weight) for name, weight in force.items()}
    terms = (*model.generates.values(), *model.aligns.values())
    return {term.name: float(term.weight) for term in terms}


def weights_by_label(model: Model, stage: str, labels: Iterable[str]) -> dict[str, float]:
    """Weights of the terms in force by the names that `loss` gives them.

    A term of several layouts is named after each, as `act.packed`, and counts by its share.
    """
    weights, found = weights_of(model, stage), {}
    for label in labels:
        name, _, layout = label.rpartition(".")
        if label in weights:
            found[label] = weights[label] * _share(model, label)
        elif layout in model.layouts and name in weights:
            found[label] = weights[name] * _share(model, name, layout)
    return found


def _share(model: Model, term: str, layout: str = "") -> float:
    """How much of the training a term has: its layout's share, 1 where there are no layouts."""
    total = float(sum(entry.share for entry in model.layouts.values())) or 1.0
    if layout or not model.layouts:
        return float(model.layouts[layout].share) / total if layout else 1.0
    generate = model.generates.get(term)
    names = {segment.reference for segment in generate.segments} if generate else set()
    homes = [
        entry
        for entry in model.layouts.values()
        if not (names and entry.predicted) or names & set(entry.predicted)
    ]
    return float(sum(entry.share for entry in homes)) / total


def optimizer_of(
    module: nn.Module, phase: Phase, trainable: frozenset[Tensor], settings: TrainSettings
) -> torch.optim.AdamW:
    """A fresh AdamW over what the phase trains; everything else gets no gradient.

    Vectors, tables and norms are not decayed.  Each group keeps its highest rate as `highest`.
    """
    rates = _rates(module, phase)
    trained = {value: rate for value, rate in rates.items() if value in trainable}
    for value in module.parameters():
        value.requires_grad_(value in trained)
        value.grad = None  # an earlier phase's would count in the norm of the gradient
    groups = []
    for rate in dict.fromkeys(trained.values()):
        own = [value for value in module.parameters() if trained.get(value) == rate]
        for matrices in (True, False):
            values = [value for value in own if (value.dim() >= 2) == matrices]
            decay = settings.weight_decay if matrices else 0.0
            groups.append({"params": values, "weight_decay": decay, "highest": rate})
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=(0.9, 0.95), fused=True
    )


def _rates(module: nn.Module, phase: Phase) -> dict[Tensor, float]:
    """The highest learning rate of every weight that the phase may train."""
    if not phase.stage:
        return dict.fromkeys(module.parameters(), phase.rates[REST])
    return {
        value: phase.rates.get(part, phase.rates[REST])
        for part, modules in module.trained(phase.stage).items()
        for owner in modules
        for value in owner.parameters()
    }
