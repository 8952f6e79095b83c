"""wmdsl: a language and compiler for world-model policies.

`parse`, `check`, `plan` and `emit` need no torch; `compile` and `load` import it when called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from wmdsl.diagnostics.diagnostic import Diagnostic
    from wmdsl.plan.nodes import Plan
    from wmdsl.syntax.ast import File

__all__ = ["check", "compile", "emit", "load", "parse", "plan"]
__version__ = "0.1.0"


def parse(path_or_text: str | Path) -> File:
    """The syntax tree of a spec; raises SpecError with all diagnostics where it has errors."""
    from wmdsl import driver

    return driver.front(path_or_text, stop_after="parse")


def check(path_or_text: str | Path, **params: object) -> list[Diagnostic]:
    """All diagnostics of a spec, in source order; an empty list where it is clean."""
    from wmdsl import driver

    return driver.diagnose(path_or_text, params)


def plan(path_or_text: str | Path, **params: object) -> Plan:
    """Everything the compiler derives; raises SpecError where the spec has errors."""
    from wmdsl import driver

    return driver.front(path_or_text, params)


def emit(path_or_text: str | Path, *, standalone: bool = False, **params: object) -> str:
    """The PyTorch source of a spec: one readable file, the same bytes for the same spec."""
    from wmdsl import driver

    return driver.source(path_or_text, params, standalone=standalone)


def compile(path_or_text: str | Path, **params: object) -> nn.Module:
    """The module that a spec describes: the emitted source, imported.

    It has `loss(batch)`, `query(name, batch, generator=...)`, `plan` and `source`.
    """
    from wmdsl import driver

    return driver.module(path_or_text, params)


def load(run: str | Path) -> nn.Module:
    """Spec, weights and statistics of a run directory; verifies that they belong together."""
    from wmdsl.runtime.load import load_run

    return load_run(run)
