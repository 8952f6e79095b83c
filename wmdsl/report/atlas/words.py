"""Cells of the table in words, the same in a terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wmdsl.plan.quantities import count, percent

CANONICAL = ("policy", "passive_world_model", "controllable_world_model", "inverse_dynamics")
ABSENT = "–"


def agreement(row: Mapping[str, Any]) -> str:
    """`agrees`, `differs`, or why there is nothing to compare."""
    if row["errors"]:
        return "spec has errors"
    return row["agreement"] or "not in the talk"


def because(derived: Mapping[str, Any]) -> str:
    """The reasons of the row, each once."""
    return "; ".join(dict.fromkeys(derived["paradigm"]["because"]))


def answers(derived: Mapping[str, Any]) -> list[str]:
    """How the four usual questions are answered."""
    return [derived["canonical_queries"][name]["answerable"] for name in CANONICAL]


def dropped(query: Mapping[str, Any]) -> str:
    return ", ".join(f"{entry['what']} ({entry['how']})" for entry in query["dropped"]) or "nothing"


def idle(query: Mapping[str, Any]) -> str:
    parts = (f"{owner} ({count(params)})" for owner, params in query["idle"].items())
    return ", ".join(parts) or "nothing"


def density(derived: Mapping[str, Any]) -> str:
    mask = derived["mask"]
    return percent(mask["density"]) if mask else ABSENT


def parameters(params: Mapping[str, Any]) -> str:
    """`5.02 B, 5.02 B trainable; published 5 B (shared_backbone, code dims): +0.4%, within 5%`."""
    own = f"{count(params['total'])}, {count(params['trainable'])} trainable"
    published = params["published"]
    return f"{own}; {_published(published)}" if published else own


def _published(published: Mapping[str, Any]) -> str:
    said = f"published {count(published['params'])} ({published['part']}, {published['basis']})"
    if published["derived"] is None:
        return f"{said}: the spec has no {published['counted']}"
    own = "" if published["counted"] == "all" else f"{count(published['derived'])} here, "
    limit = f"{'within' if published['within'] else 'outside of'} {published['tolerance']:.0%}"
    return f"{said}: {own}{published['deviation']:+.1%}, {limit}"


def reported(row: Mapping[str, Any]) -> str:
    """`avg 98.5`, or the suites where the paper reports no average."""
    figures = row["reported"]
    shown = {"avg": figures["avg"]} if "avg" in figures else figures
    return ", ".join(f"{suite} {figure:.1f}" for suite, figure in shown.items()) or ABSENT


def summary(table: Mapping[str, Any]) -> str:
    """One paragraph over the whole table."""
    counts = table["summary"]
    compared = counts["agree"] + counts["differ"]
    text = (
        f"{counts['specs']} specs, {counts['with_errors']} with errors.  Of the talk's "
        f"{counts['systems']} systems {compared} have a plan: {counts['agree']} stand in the "
        f"talk's row, {counts['differ']} in another one."
    )
    missing = ", ".join(counts["without_spec"])
    return f"{text}  Without a spec here: {missing}." if missing else text
