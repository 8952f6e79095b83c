"""Data sources that training tells apart, and what their samples count there."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from wmdsl.check.model import Align, Layout, Model


def data_sources(model: Model) -> tuple[str, ...]:
    """Their names in order; a batch names the source of a sample by its number among them."""
    named = [name for align in model.aligns.values() for name in weights_by_source(align)]
    named += [name for layout in model.layouts.values() for name in sources_of(layout)]
    return tuple(dict.fromkeys(named))


def sources_of(layout: Layout) -> tuple[str, ...]:
    """The sources whose samples train a layout; none where all do."""
    return tuple(reference.dotted for reference in layout.attributes["data"] or ())


def weights_by_source(align: Align) -> Mapping[str, Fraction]:
    """Weights of an align on the samples of single sources."""
    items = align.attributes["weight"]
    return {item.terms[2].dotted: item.terms[0].value for item in items if len(item.terms) > 1}


def factors(model: Model, align: Align) -> tuple[Fraction, ...]:
    """What the samples of each source count beside those of no named one; () where all are 1."""
    weights = weights_by_source(align)
    if not weights:
        return ()
    return tuple(weights.get(name, align.weight) / align.weight for name in data_sources(model))
