"""Every message of the checker: one constructor each, prose nowhere else."""

from wmdsl.check.errors import (
    attributes,
    codecs,
    couplings,
    dataset,
    layouts,
    names,
    planners,
    queries,
    rates,
    shapes,
    training,
)

__all__ = [
    "attributes",
    "codecs",
    "couplings",
    "dataset",
    "layouts",
    "names",
    "planners",
    "queries",
    "rates",
    "shapes",
    "training",
]
