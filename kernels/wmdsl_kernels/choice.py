"""The choice of a back end: the first that does not refuse a call, or the one that is named.

A refusal is a function of a call: why the back end cannot take it, None where it can. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from wmdsl_kernels import errors

Call = TypeVar("Call")

Refusals = Mapping[str, Callable[[Call], str | None]]
"""By name, in the order of preference."""


def choose(refusals: Refusals[Call], call: Call, named: str | None) -> str:
    """The back end for a call; `naive` takes everything and runs only when named.

    DispatchError where the named back end is unknown or refuses, or where all refuse.
    """
    if named == "naive":
        return named
    if named is None:
        return _first(refusals, call)
    if named not in refusals:
        raise errors.unknown_backend(named, (*refusals, "naive"))
    reason = refusals[named](call)
    if reason is not None:
        raise errors.backend_refuses(named, reason)
    return named


def _first(refusals: Refusals[Call], call: Call) -> str:
    reasons = []
    for name, refusal in refusals.items():
        reason = refusal(call)
        if reason is None:
            return name
        reasons.append((name, reason))
    raise errors.no_backend(reasons)


def verdicts(refusals: Refusals[Call], call: Call) -> list[tuple[str, bool, str]]:
    """(back end, whether it accepts, why not) in the order of preference."""
    reasons = [(name, refusal(call)) for name, refusal in refusals.items()]
    return [(name, reason is None, reason or "") for name, reason in reasons]
