"""The table as one self-contained HTML file, with the coupling graph of every spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from wmdsl.plan.draw import drawing_of, to_svg
from wmdsl.plan.nodes import Plan
from wmdsl.plan.quantities import count
from wmdsl.report.atlas import words
from wmdsl.report.atlas.collect import Entry


def to_html(table: Mapping[str, Any], entries: Sequence[Entry]) -> str:
    """`entries` are those that the table was made of; a spec without a trunk has no picture."""
    from jinja2 import Environment
    from markupsafe import Markup

    text = resources.files("wmdsl.report.atlas").joinpath("page.html.jinja").read_text("utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    pictures = {
        entry.slug: Markup(to_svg(drawing_of(entry.plan)))
        for entry in entries
        if entry.plan is not None and _drawable(entry.plan)
    }
    return template.render(table=table, pictures=pictures, words=words, count=count)


def _drawable(plan: Plan) -> bool:
    return bool(plan.train.spaces)
