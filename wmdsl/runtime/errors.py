"""What can go wrong around a run. Each constructor states one fault and what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from wmdsl.check.model import Stream
from wmdsl.diagnostics.problem import Problem

GAP = "WM884"  # what the data lacks, and training goes on without


class RunError(Problem):
    """A fault of a run that its user can mend."""


def missing(path: Path, help: str) -> RunError:
    return RunError("WM871", f"there is no {path.name}", path, help)


def other_spec(path: Path, found: str, expected: str) -> RunError:
    return RunError(
        "WM872",
        f"the run was made from another spec: its hash is {found[:12]}, this one's {expected[:12]}",
        path,
        "train into another folder, or `wmdsl diff` the run's model.wm with your spec",
    )


def other_settings(path: Path, changed: Iterable[tuple[str, object, object]]) -> RunError:
    told = ", ".join(f"{name} {then}, not {now}" for name, then, now in changed)
    return RunError(
        "WM872",
        f"the run was begun with {told}",
        path,
        "continue without these options, or train into another folder",
    )


def no_checkpoint(path: Path) -> RunError:
    return RunError(
        "WM871",
        "the run has weights, but no checkpoint to continue at",
        path,
        "train into another folder: going on would begin at step 0 and replace these weights",
    )


def damaged_checkpoint(folder: Path, fault: Problem, has_earlier: bool) -> RunError:
    name = Path(str(fault.where)).name
    what = fault.what if name in fault.what else f"{name} {fault.what}"
    return RunError(
        fault.code,
        f"the checkpoint is damaged: {what}",
        folder,
        "remove this folder to continue at the checkpoint before it"
        if has_earlier
        else "there is no other checkpoint: restore this one, or train into another folder",
    )


def out_of_range(name: str, value: object, wanted: str) -> RunError:
    return RunError("WM887", f"{name} is {value}", name, f"it must be {wanted}")


def broken(path: Path, help: str) -> RunError:
    return RunError("WM871", f"{path.name} cannot be read", path, help)


def misfit(path: Path, missing_names: list[str], surplus: list[str], shapes: list[str]) -> RunError:
    parts = [
        f"{len(names)} {what} ({', '.join(names[:3])}{'...' if len(names) > 3 else ''})"
        for what, names in (("missing", missing_names), ("unknown", surplus), ("reshaped", shapes))
        if names
    ]
    return RunError(
        "WM873",
        f"the weights do not fit the model: {'; '.join(parts)}",
        path,
        "`wmdsl diff A.wm B.wm` says whether weights of one spec load into another",
    )


def unfit_statistics(path: Path, fault: Exception) -> RunError:
    what = f"nothing of {fault}" if isinstance(fault, KeyError) else str(fault)
    return RunError(
        "WM873",
        f"the statistics do not fit the model: {what}",
        path,
        "restore the file that training wrote, or train again",
    )


def not_finite(step: int, term: str, batch: Path) -> RunError:
    return RunError(
        "WM874",
        f"loss term {term!r} is not finite at step {step}",
        batch,
        "the batch is saved there; lower the learning rate, or look for outliers in that batch",
    )


def nothing_trained(stage: str) -> RunError:
    what = f"stage {stage}" if stage else "the training"
    return RunError(
        "WM873",
        f"{what} trains no weight that its losses depend on",
        stage or "losses",
        "name the parts that its losses train, or the losses that reach its parts",
    )


def no_source(reader: str, name: str, known: Iterable[str]) -> RunError:
    return RunError(
        "WM871",
        f"{reader} reads the data source {name!r}; there are {', '.join(known)}",
        reader,
        f"add --data {name}=FOLDER, or give one folder without a name for all sources",
    )


def untaught(stage: str, terms: Iterable[str], sources: Iterable[str]) -> RunError:
    where = f"stage {stage}" if stage else "training"
    held = ", ".join(name for name in sources if name) or "the data set"
    return RunError(
        "WM883",
        f"{held} cannot teach {' and '.join(terms)}: no sample has what is predicted there",
        where,
        "give a data set that records it with --data NAME=FOLDER, or drop the term; "
        "`wmdsl check FILE --data FOLDER` names the columns that are missing",
    )


def unscaled(stream: str, key: str) -> RunError:
    return RunError(
        "WM883",
        f"no data set records {stream}, so nothing says how its numbers are scaled",
        key,
        "bind the stream to a column by its key, or leave its numbers as they are: normalise none",
    )


def other_steps(path: Path, found: int, wanted: int) -> RunError:
    return RunError(
        "WM872",
        f"the run was begun with {found} steps for all its stages, not {wanted}",
        path,
        "continue with the same number of steps: another one would move the ends of its stages",
    )


def unwritable(path: Path, reason: OSError) -> RunError:
    return RunError(
        "WM875",
        f"cannot write: {reason.strerror or reason}",
        path,
        "free some space; the last whole checkpoint is kept, continue with --resume"
        if reason.errno in (errno.ENOSPC, errno.EDQUOT)
        else "name another place with -o, or make this one writable",
    )


def no_folder(path: Path) -> RunError:
    return RunError(
        "WM876", "a file stands where the run directory is to be", path, "name a folder with -o"
    )


def taken(path: Path) -> RunError:
    return RunError(
        "WM876",
        "the run directory already holds a run",
        path,
        "continue it with --resume, or name another folder with -o",
    )


def environment_misfit(what: str, where: str, help: str) -> RunError:
    return RunError("WM877", what, where, help)


def unanswerable(query: str, because: str, help: str) -> RunError:
    return RunError("WM878", because, f"query {query}", help)


def not_observed(query: str, reference: str) -> RunError:
    return RunError(
        "WM878",
        f"{reference} is given, and nobody can observe it before acting",
        f"query {query}",
        "act by a query whose givens lie in the past or now",
    )


def rate_misfit(stream: Stream, control_hz: Fraction) -> RunError:
    """The stream's samples do not last whole control steps."""
    steps = control_hz / stream.rate_hz
    below, above = (control_hz / n for n in (int(steps) + 1, max(int(steps), 1)))
    return RunError(
        "WM877",
        f"{stream.name} runs at {float(stream.rate_hz):g} Hz and the robot is controlled at "
        f"{float(control_hz):g} Hz: a sample lasts {float(steps):g} control steps",
        f"stream {stream.name}",
        f"the nearest rates that fit are {float(below):g} Hz and {float(above):g} Hz; write one in "
        "the stream and train again",
    )


def none_begins_now(query: str, reference: str, offset: int) -> RunError:
    return RunError(
        "WM885",
        f"no action of {reference}, whose first one is at {offset}, begins now",
        f"query {query}",
        "let the action's future begin now: remove its `offset`",
    )


def chunk_too_short(query: str, what: str, help: str) -> RunError:
    return RunError("WM885", what, f"query {query}", help)


def not_captured(query: str, because: str, help: str) -> RunError:
    return RunError("WM888", because, f"query {query}", help)


def unseen(stream: str, step: int) -> RunError:
    return RunError(
        "WM885",
        f"{stream} is looked at as it was at control step {step}, and was not observed then",
        f"stream {stream}",
        "show the session every step that its `between` names",
    )


def misshown(stream: str, what: str, help: str) -> RunError:
    return RunError("WM885", what, f"stream {stream}", help)


def not_controllable(query: str, because: str) -> RunError:
    return RunError(
        "WM878",
        because,
        f"query {query}",
        "a roll-out needs a query that gives the action's future and seeks frames: "
        "`wmdsl plan` says what the spec can answer",
    )


def not_shuffled(path: Path) -> RunError:
    return RunError(
        "WM886",
        "this run was trained on the true actions",
        path,
        "train the baseline with `wmdsl train ... --shuffle-actions`",
    )


def expert_too_slow(environment: str, limit: int) -> RunError:
    return RunError(
        "WM877",
        f"the expert rarely reaches the goal within {limit} steps",
        environment,
        "raise --limit",
    )
