"""wmdsl: a language and compiler for world-model policies.

`parse`, `check`, `plan` and `emit` need no torch; `compile` and `load` import it when called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from wmdsl.diagnostics.diagnostic import Diagnostic
    from wmdsl.plan.nodes import Plan
    from wmdsl.runtime.session import Session
    from wmdsl.syntax.ast import File

__all__ = ["check", "compile", "emit", "load", "parse", "plan", "session"]
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


def emit(
    path_or_text: str | Path,
    *,
    standalone: bool = False,
    log_density: bool = False,
    **params: object,
) -> str:
    """The PyTorch source of a spec: one readable file, the same bytes for the same spec.

    With `log_density` it has the log-densities of queries instead of losses and queries.
    """
    from wmdsl import driver

    return driver.source(path_or_text, params, standalone=standalone, densities=log_density)


def compile(path_or_text: str | Path, *, naive: bool = False, **params: object) -> nn.Module:
    """The module that a spec describes: the emitted source, imported.

    It has `loss(batch)`, `query(name, batch, generator=...)`, `log_density(name, batch, ...)`,
    `plan` and `source`.

    With `naive` its queries compute everything in every step: the same answers, for comparison.
    """
    from wmdsl import driver

    return driver.module(path_or_text, params, naive=naive)


def load(run: str | Path) -> nn.Module:
    """Spec, weights and statistics of a run directory; verifies that they belong together."""
    from wmdsl.runtime.load import load_run

    return load_run(run)


def session(
    module: nn.Module,
    query: str = "policy",
    *,
    control_hz: float | None = None,
    camera_hz: float | None = None,
    **settings: object,
) -> Session:
    """A module in closed loop: `step(observation)` gives the next chunk of actions.

    The keywords are those of `wmdsl.runtime.session.SessionSettings` and `Session`.
    """
    from wmdsl.runtime.session import Session, SessionSettings

    chosen = SessionSettings(**settings)  # type: ignore[arg-type]
    return Session(module, query, chosen, control_hz=control_hz, camera_hz=camera_hz)


class _Face(ModuleType):
    """Keeps `wmdsl.check`, `wmdsl.plan` and `wmdsl.emit` the functions of the public API: the
    import system would replace them by the stage folders of the same names."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
