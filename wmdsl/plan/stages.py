"""What each stage of training does: the parts it trains, the losses in force, their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from wmdsl.check.model import Model, Stage
from wmdsl.check.stages import stages_of
from wmdsl.plan.nodes import Parameters, StagePlan

Part = tuple[str, str]  # form, name


def stage_plans(model: Model, parameters: Parameters) -> tuple[StagePlan, ...]:
    """The stages in order."""
    return tuple(_plan(model, stage, parameters) for stage in model.stages.values())


def _plan(model: Model, stage: Stage, parameters: Parameters) -> StagePlan:
    parts = [part for part in trained_parts(model, stage) if _weighty(model, parameters, part)]
    owners = [f"{form}.{name}" for form, name in parts]
    trunks = {name for form, name in parts if form == "trunk"}
    owners += [f"lora.{trunk}" for trunk in trunks]
    owners += [
        f"head.{generate.name}"
        for generate in model.generates.values()
        if trunks & {trunk for trunk, _ in generate.groups}
    ]
    weights = sum(
        count
        for owner, count in parameters.by_owner.items()
        if owner in owners and owner not in parameters.frozen_owners
    )
    return StagePlan(
        name=stage.name,
        trained=tuple(name for _, name in parts),
        losses=tuple(terms_in_force(model, stage)),
        steps=stage.steps,
        data=stage.data,
        rates=stage.rates,
        weights=weights,
        span=stage.span,
    )


def _weighty(model: Model, parameters: Parameters, part: Part) -> bool:
    """Whether a part has weights; those of a pretrained codec may not be known."""
    form, name = part
    hub = form == "codec" and model.codecs[name].attributes.get("from")
    return f"{form}.{name}" in parameters.by_owner or bool(hub)


def trained_parts(model: Model, stage: Stage) -> tuple[Part, ...]:
    """Parts whose weights a stage may change; frozen ones stay so wherever they stand.

    What no stage can name follows: a projector its loss, a learned mask the trunk that reads it.
    """
    named = [
        *(("codec", name) for name in model.codecs),
        *(("trunk", name) for name in model.trunks),
        *(("cross", name) for name in model.crosses),
        *(("condition", name) for name in model.conditions),
    ]
    still = {
        (form, part.name)
        for form, table in (("codec", model.codecs), ("cross", model.crosses))
        for part in table.values()
        if part.frozen
    }
    found = [part for part in named if part not in still and _trains(stage, part[1])]
    found += [("align", align) for align in _aligns(model, stage)]
    trunks = {name for form, name in found if form == "trunk"}
    masks = [hand for hand in model.hands.values() if hand.mask != "none"]
    found += [("hand", hand.name) for hand in masks if hand.trunk in trunks]
    return tuple(found)


def _trains(stage: Stage, name: str) -> bool:
    return name not in stage.frozen and (not stage.trained or name in stage.trained)


def _aligns(model: Model, stage: Stage) -> Iterator[str]:
    """Aligns in force that have a projector."""
    for align in model.aligns.values():
        if align.projector != "none" and _counts(stage, align.name, align.attributes):
            yield align.name


def _counts(stage: Stage, term: str, attributes: Mapping[str, object]) -> bool:
    limited = stages_of(attributes)
    return (not stage.losses or term in stage.losses) and (not limited or stage.name in limited)


def terms_in_force(model: Model, stage: Stage) -> Mapping[str, Fraction]:
    """The loss terms of a stage with their weights, guards and the areas of masks among them."""
    terms: dict[str, Fraction] = {}
    for made in (*model.generates.values(), *model.aligns.values()):
        if _counts(stage, made.name, made.attributes):
            terms[made.name] = made.weight
    for align in model.aligns.values():
        if align.guard is not None and align.name in terms:
            terms[f"{align.name}.guard"] = Fraction(align.guard.arguments[0])
    masks = {name for form, name in trained_parts(model, stage) if form == "hand"}
    for name in masks:
        terms[f"{name}.mask"] = model.hands[name].sparsity
    return terms
