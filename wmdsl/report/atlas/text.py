"""The table for a terminal: one line for each spec, then what stands behind it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wmdsl.plan.quantities import count
from wmdsl.report.atlas import words

WIDTH = 100
INDENT = "  "
LABEL = 15
HEADER = ("spec", "derived", "the talk's", "visual", "weights", "mask", "P W C I")
COMPARED = {"agrees": "= ", "differs": "≠ ", None: ""}
MARKS = {"exact": "=", "approximate": "~", "no": "-"}
LEGEND = (
    "visual: branch at inference.  P W C I: policy, passive and controllable world model, inverse "
    "dynamics (= exact, ~ approximate, - no).  mask: share of pairs that are visible in training."
)


def to_text(table: Mapping[str, Any]) -> str:
    """The whole table, ending in a line break."""
    lines = [*textwrap.wrap(words.summary(table), WIDTH), ""]
    lines += _columns([HEADER, *(_cells(row) for row in table["rows"])])
    lines += ["", *textwrap.wrap(LEGEND, WIDTH)]
    for row in table["rows"]:
        lines += ["", *_details(row)]
    return "\n".join(lines) + "\n"


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield INDENT.join(cells).rstrip()


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    derived = row["derived"]
    talk = COMPARED[row["agreement"]] + (row["talk"] or words.ABSENT)
    if not derived:
        return (row["slug"], "has errors", talk, *(words.ABSENT,) * (len(HEADER) - 3))
    return (
        row["slug"],
        derived["paradigm"]["id"],
        talk,
        derived["paradigm"]["visual_at_inference"],
        count(derived["params"]["total"]),
        words.density(derived),
        " ".join(MARKS[answer] for answer in words.answers(derived)),
    )


def _details(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"{row['slug']}: {row['name']}"
    for error in row["errors"]:
        yield from _field("error", error)
    if row["derived"]:
        yield from _derived(row, row["derived"])
    if row["reported"]:
        yield from _field("LIBERO, as said", words.reported(row))
    for unknown in row["unknowns"]:
        yield from _field("unknown", unknown)


def _derived(row: Mapping[str, Any], derived: Mapping[str, Any]) -> Iterator[str]:
    paradigm = derived["paradigm"]
    because = words.because(derived)
    talk = f", where the talk says {row['talk']}" if row["agreement"] == "differs" else ""
    yield from _field("paradigm", f"{paradigm['id']} (rule {paradigm['rule']}){talk}: {because}")
    yield from _field("density", derived["factorisation"] or "nothing is predicted")
    yield from _field("weights", words.parameters(derived["params"]))
    for name, query in derived["queries"].items():
        yield from _field(f"query {name}", f"{query['answerable']}: {query['because']}")
        if query["dropped"]:
            yield from _field("", f"drops {words.dropped(query)}")
        if query["idle"]:
            yield from _field("", f"never runs {words.idle(query)}")
    for line in derived["differences"]:
        yield from _field("differs", line)
    if derived["unrunnable"]:
        yield from _field("cannot run yet", ", ".join(derived["unrunnable"]))


def _field(label: str, text: str) -> list[str]:
    first = f"{INDENT}{label:<{LABEL}} "
    rest = " " * (len(INDENT) + LABEL + 1)
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest)
