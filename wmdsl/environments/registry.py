"""Names of environments: `suite/task`, or several of them separated by commas."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from wmdsl.environments.base import Environment, EnvironmentSpec

SUITES = ("libero", "metaworld")


class UnknownEnvironment(ValueError):
    """No suite or task has this name; the message offers the nearest one."""


def names(text: str | Sequence[str]) -> tuple[str, ...]:
    """Split `a/b,a/c` (or take a sequence of such) into distinct names, order kept."""
    parts = [text] if isinstance(text, str) else list(text)
    found = [name.strip() for part in parts for name in part.split(",") if name.strip()]
    if not found:
        raise UnknownEnvironment("no environment is named; an example is metaworld/push-v3")
    return tuple(dict.fromkeys(found))


def make(name: str, supersample: int = 1) -> Environment:
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
    near = get_close_matches(suite, SUITES, n=1)
    hint = f"; did you mean {near[0]}/{task}?" if near and separator else ""
    raise UnknownEnvironment(
        f"{name!r} is no environment: a name reads suite/task, suites are {', '.join(SUITES)}{hint}"
    )


def _checked(suite: str, task: str) -> str:
    known = _module(suite).tasks()
    if task in known:
        return task
    near = get_close_matches(task, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
    raise UnknownEnvironment(f"{suite} has no task {task!r}; {hint}")
