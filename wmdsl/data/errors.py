"""What can be wrong with a dataset. Each constructor states one fault and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wmdsl.diagnostics.problem import Problem
from wmdsl.diagnostics.suggest import did_you_mean


class DataError(Problem):
    """A fault in data, for a user to mend: `code`, `what`, `where` (a path or key), `help`."""


def missing(what: str, path: Path, help: str = "") -> DataError:
    """A file or folder that must be there is not."""
    return DataError(
        "WM851", f"{what} is missing", path, help or "copy or generate the dataset again"
    )


def unreadable(what: str, path: Path, reason: object) -> DataError:
    """A file is truncated or corrupt."""
    return DataError(
        "WM852",
        f"{what} cannot be read: {_one_line(reason)}",
        path,
        "the file is truncated or corrupt; copy or generate the dataset again",
    )


def bad_metadata(what: str, path: Path, help: str) -> DataError:
    """The metadata lacks something or contradicts the files."""
    return DataError("WM853", what, path, help)


def unknown_feature(kind: str, name: str, known: Iterable[str], where: str | Path) -> DataError:
    """A camera or feature that the dataset does not have."""
    known = sorted(known)
    near = did_you_mean(name, known)
    has = f"it has {', '.join(known)}" if known else "it has none"
    return DataError(
        "WM854",
        f"the dataset has no {kind} {name!r}",
        where,
        f"did you mean {near!r}? {has}" if near else has,
    )


def not_finite(key: str, index: int, episode: int, row: int, where: str | Path) -> DataError:
    """NaN or infinity in component `index` of a feature."""
    return DataError(
        "WM855",
        f"{key}[{index}] is not finite in row {row} of episode {episode}",
        where,
        "remove or repair this episode; training on it would make every weight NaN",
    )


def wrong_rate(what: str, where: str | Path, help: str) -> DataError:
    """Rates that cannot be brought together."""
    return DataError("WM856", what, where, help)


def wrong_shape(key: str, found: object, wanted: object, where: str | Path) -> DataError:
    """A feature has another shape than the stream that reads it."""
    return DataError(
        "WM857",
        f"{key} has shape {found} where {wanted} was asked for",
        where,
        "change the shape in the spec, or bind the stream to another feature",
    )


def text_too_long(text: str, length: int, where: str | Path) -> DataError:
    """An instruction does not fit the length of its stream."""
    return DataError(
        "WM858",
        f"the instruction {text!r} takes {len(text.encode())} bytes, the stream holds {length}",
        where,
        f"give the stream at least {len(text.encode())} tokens",
    )


def not_writable(path: Path, reason: object) -> DataError:
    """No space, no permission."""
    return DataError(
        "WM859",
        f"cannot be written: {_one_line(reason)}",
        path,
        "free some space or choose another folder",
    )


def occupied(path: Path, help: str) -> DataError:
    """The output folder holds something else."""
    return DataError("WM860", "the output folder exists and holds something else", path, help)


def expert_failing(name: str, failures: int, attempts: int) -> DataError:
    """Too few attempts of a scripted expert succeed."""
    return DataError(
        "WM861",
        f"the scripted expert failed {failures} of {attempts} attempts",
        name,
        "this does not happen with the supported simulator version; check its installation",
    )


def worker_died(where: str) -> DataError:
    """A process that records or steps environments is gone."""
    return DataError(
        "WM863",
        "a worker process died (killed, or out of memory)",
        where,
        "run the command again: finished episodes are kept; fewer workers take less memory",
    )


def empty(what: str, where: str | Path, help: str) -> DataError:
    """Nothing is left to draw from."""
    return DataError("WM862", what, where, help)


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())[:300]
