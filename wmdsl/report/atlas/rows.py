"""The table as plain data, in the shape that `wmdsl atlas --format json` promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wmdsl.plan.as_json import to_json
from wmdsl.plan.nodes import Generation, Parameters, Plan
from wmdsl.report.atlas.collect import Entry
from wmdsl.report.atlas.facts import Facts, Published

FORMAT_VERSION = 1
PREDICTING = ("head", "align")  # owners named after what they predict


def table_of(entries: Sequence[Entry], facts: Facts) -> dict[str, Any]:
    """Rows in the talk's order, variants behind their base; docs/atlas.md documents the keys."""
    ordered = sorted(entries, key=lambda entry: (_place(entry.slug, facts), entry.slug))
    rows = [_row(entry, facts) for entry in ordered]
    present = {entry.slug for entry in entries}
    return {
        "format_version": FORMAT_VERSION,
        "summary": {
            "specs": len(rows),
            "with_errors": sum(bool(row["errors"]) for row in rows),
            "systems": len(facts.talk),
            "agree": _number(rows, "agrees"),
            "differ": _number(rows, "differs"),
            "without_spec": [slug for slug in facts.talk if slug not in present],
        },
        "rows": rows,
    }


def _place(slug: str, facts: Facts) -> int:
    """Where the talk lists the system; a variant's file is named after its base's."""
    for index, known in enumerate(facts.talk):
        if slug == known or slug.startswith(f"{known}_") and slug not in facts.talk:
            return index
    return len(facts.talk)


def _number(rows: Iterable[Mapping[str, Any]], agreement: str) -> int:
    return sum(row["agreement"] == agreement for row in rows)


def _row(entry: Entry, facts: Facts) -> dict[str, Any]:
    talk = facts.talk.get(entry.slug)
    derived = entry.plan and entry.plan.paradigm.id
    return {
        "slug": entry.slug,
        "name": talk.name if talk else entry.slug,
        "talk": talk.paradigm if talk else None,
        "agreement": _agreement(derived, talk.paradigm if talk else None),
        "errors": list(entry.errors),
        "unknowns": list(entry.unknowns),
        "reported": dict(facts.reported.get(entry.slug, {})),
        "derived": entry.plan and _derived(entry.plan, facts.published.get(entry.slug)),
    }


def _agreement(derived: str | None, talk: str | None) -> str | None:
    """None where one of the two says nothing."""
    if derived is None or talk is None:
        return None
    return "agrees" if derived == talk else "differs"


def _derived(plan: Plan, published: Published | None) -> dict[str, Any]:
    whole: dict[str, Any] = to_json(plan)
    mask = plan.masks.get("train")
    return {
        "title": plan.model.title,
        "paradigm": whole["paradigm"],
        "factorisation": plan.factorisation,
        "canonical_queries": {
            name: {"answerable": query.answerable, "because": query.because}
            for name, query in plan.canonical_queries.items()
        },
        "queries": {
            name: {
                "answerable": query.answerable,
                "because": query.because,
                "dropped": whole["queries"][name]["dropped"],
                "idle": dict(_idle(plan, query.chain)),
            }
            for name, query in plan.queries.items()
        },
        "params": {
            "total": plan.parameters.total,
            "trainable": plan.parameters.trainable,
            "published": published and _compared(plan.parameters, published),
        },
        "mask": mask and {"tokens": mask.tokens, "density": mask.density},
        "differences": list(plan.differences),
        "unrunnable": sorted({entry.code for entry in plan.model.unrunnable}),
    }


def _idle(plan: Plan, chain: Sequence[Generation]) -> Iterator[tuple[str, int]]:
    """Trunks, heads and alignments that no step of a query runs, with their parameters."""
    if not chain:
        return
    used = {
        f"trunk.{placed.group.trunk}"
        for step in chain
        for space in step.evaluation.spaces
        for placed in space.groups
    }
    used |= {f"{kind}.{name}" for kind in PREDICTING for step in chain for name in step.generates}
    for owner, params in plan.parameters.by_owner.items():
        if owner.partition(".")[0] in ("trunk", *PREDICTING) and owner not in used:
            yield owner, params


def _compared(parameters: Parameters, published: Published) -> dict[str, Any]:
    """`deviation` is a share of the published count; None where the spec lacks what is counted."""
    counted = _counted(parameters, published.counted)
    deviation = None if counted is None else counted / published.params - 1
    return {
        "part": published.part,
        "params": published.params,
        "basis": published.basis,
        "tolerance": published.tolerance,
        "counted": published.counted,
        "derived": counted,
        "deviation": deviation,
        "within": None if deviation is None else abs(deviation) <= published.tolerance,
    }


def _counted(parameters: Parameters, what: str) -> int | None:
    if what == "all":
        return parameters.total
    if what == "trainable":
        return parameters.trainable
    owners = what.split()
    if any(owner not in parameters.by_owner for owner in owners):
        return None
    return sum(parameters.by_owner[owner] for owner in owners)
