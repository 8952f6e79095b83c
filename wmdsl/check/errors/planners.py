"""Planners."""

from __future__ import annotations

from fractions import Fraction

from wmdsl.check.errors.wording import error
from wmdsl.diagnostics import Diagnostic
from wmdsl.syntax import ast


def empty_range(declaration: ast.Declaration, low: Fraction, high: Fraction) -> Diagnostic:
    attribute = declaration.attribute("low") or declaration.attribute("high")
    return error("WM126", f"no action lies between {float(low):g} and {float(high):g}",
                 attribute.span, "low must be below high",
                 help="exchange `low` and `high`")  # fmt: skip


def too_many_elites(declaration: ast.Declaration, elites: int, samples: int) -> Diagnostic:
    attribute = declaration.attribute("elites") or declaration.attribute("samples")
    return error("WM126", f"{elites} elites cannot be chosen from {samples} samples",
                 attribute.span, f"more than {samples}",
                 help="take fewer elites, or more samples")  # fmt: skip
