"""Stages of training: what each of them trains, by which losses, on which data, how fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from wmdsl.check import errors
from wmdsl.check.model import Stage
from wmdsl.check.scope import Draft, Mistake
from wmdsl.check.values import attributes, number
from wmdsl.syntax import ast
from wmdsl.vocabulary import FORMS, Attribute

REST = "rest"  # all parts without a rate of their own
RATE = Attribute("rate", "real", "Learning rate.", minimum=0)
SHARE = Attribute("data", "real", "Share of the samples.", minimum=0)


def build_stages(draft: Draft) -> None:
    """Fill `draft.stages`."""
    for declaration in draft.of("stage"):
        draft.stages[declaration.name.text] = draft.attempt(_stage, declaration)
    for declaration in draft.of("generate"):
        attribute = declaration.attribute("stage")
        items = attribute.items if attribute else ()
        with draft.guard():
            names_of(draft, [item.terms[0] for item in items], "stage", draft.stages)


def _stage(draft: Draft, declaration: ast.Declaration) -> Stage:
    values = attributes(draft, FORMS["stage"], declaration)
    parts = {**draft.trunks, **draft.codecs, **draft.crosses, **draft.conditions}
    trained = names_of(draft, values["train"], "part of the model", parts)
    frozen = names_of(draft, values["freeze"], "part of the model", parts)
    both = next((name for name in trained if name in frozen), None)
    if both is not None:
        raise Mistake(errors.training.trained_and_frozen(declaration, both))
    losses = names_of(draft, values["losses"], "loss", {**draft.generates, **draft.aligns})
    if draft.sound and not _in_force(draft, declaration.name.text, losses):
        raise Mistake(errors.training.stage_without_loss(declaration))
    return Stage(
        name=declaration.name.text,
        trained=trained,
        frozen=frozen,
        losses=losses,
        steps=values["steps"],
        data=_shares(values["data"]),
        rates=_rates(draft, values["rate"], parts),
        span=declaration.span,
    )


def _in_force(draft: Draft, stage: str, losses: tuple[str, ...]) -> bool:
    return any(
        not losses or term.name in losses
        for term in (*draft.generates.values(), *draft.aligns.values())
        if stage in (stages_of(term.attributes) or (stage,))
    )


def stages_of(attributes: Mapping[str, object]) -> tuple[str, ...]:
    """The stages that a loss is limited to; none where it counts in all."""
    return tuple(reference.dotted for reference in attributes.get("stage") or ())


def names_of(
    draft: Draft, named: Iterable[ast.Expression] | None, what: str, known: Iterable[str]
) -> tuple[str, ...]:
    """The first words of references, all of which must be known."""
    found = {}
    for reference in named or ():
        if not isinstance(reference, ast.Reference):
            raise Mistake(errors.names.name_wanted(reference, f"a {what}"))
        name = reference.path[0]
        if name not in known and not draft.spec.may_declare(name):
            raise Mistake(errors.names.unknown_part(reference, what, known))
        found[name] = None
    return tuple(found)


def _shares(items: tuple[ast.Item, ...] | None) -> Mapping[str, Fraction]:
    """Data sources with their shares: `robot 0.7, human_video 0.3`; even where none is written."""
    shares = {}
    for item in items or ():
        source = item.terms[0]
        if not isinstance(source, ast.Reference):
            raise Mistake(errors.names.name_wanted(source, "a data source"))
        rest = ast.Item(item.terms[1:], item.span)
        shares[source.dotted] = number(SHARE, rest) if rest.terms else Fraction(1)
    return shares


def _rates(
    draft: Draft, items: tuple[ast.Item, ...] | None, parts: Iterable[str]
) -> Mapping[str, Fraction]:
    """Learning rates by part; one number counts for all, as `rest` does for those not named."""
    rates = {}
    for item in items or ():
        *part, value = item.terms
        (name,) = names_of(draft, part[:1], "part of the model", [*parts, REST]) or (REST,)
        rates[name] = number(RATE, ast.Item((*part[1:], value), item.span))
    return rates
