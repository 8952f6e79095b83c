"""Names of environments: `suite/task`, or several of them separated by commas."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from wmdsl.diagnostics.suggest import did_you_mean
from wmdsl.environments.base import SUPERSAMPLE, UnknownEnvironment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from wmdsl.environments.base import Environment, EnvironmentSpec

SUITES = ("libero", "metaworld")


def names(text: str | Sequence[str]) -> tuple[str, ...]:
    """Split `a/b,a/c` (or take a sequence of such) into distinct names, order kept."""
    parts = [text] if isinstance(text, str) else list(text)
    found = [name.strip() for part in parts for name in part.split(",") if name.strip()]
    if not found:
        raise UnknownEnvironment("no environment is named", repr(text), "try metaworld/push-v3")
    return tuple(dict.fromkeys(found))


def make(name: str, supersample: int = SUPERSAMPLE) -> Environment:
    """The environment called `suite/task`.

    `supersample` renders at a multiple of the asked size and averages it down.
    Raises UnknownEnvironment for a wrong name and EnvironmentUnavailable where the
    simulator is not installed.
    """
    suite, task = _split(name)
    return _module(suite).create(_checked(suite, task), supersample)


def spec(name: str) -> EnvironmentSpec:
    """The facts of an environment, without building it. Raises as `make` does."""
    suite, task = _split(name)
    return _module(suite).spec_of(_checked(suite, task))


def _module(suite: str) -> ModuleType:
    return import_module(f"wmdsl.environments.{suite}")


def _split(name: str) -> tuple[str, str]:
    suite, separator, task = name.partition("/")
    if separator and suite in SUITES:
        return suite, task
    near = did_you_mean(suite, SUITES)
    raise UnknownEnvironment(
        "an environment is named suite/task",
        name,
        f"did you mean {near}/{task}?" if near and task else f"suites are {', '.join(SUITES)}",
    )


def _checked(suite: str, task: str) -> str:
    known = _module(suite).tasks()
    if task in known:
        return task
    near = did_you_mean(task, known)
    raise UnknownEnvironment(
        f"{suite} has no task {task!r}",
        f"{suite}/{task}",
        f"did you mean {suite}/{near}?" if near else f"its tasks are {', '.join(known)}",
    )
