"""Faults of pretrained weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wmdsl.diagnostics.problem import Problem
from wmdsl.weights.named import Named

CHOICES = "--weights random, --weights hub or --weights FOLDER"


class WeightsError(Problem):
    """A fault of pretrained weights that the user can mend."""


def not_chosen(named: Sequence[Named]) -> WeightsError:
    ids = ", ".join(dict.fromkeys(part.hub for part in named))
    return WeightsError("WM880", f"the spec names pretrained weights: {ids}", named[0].place,
                        f"say what becomes of them: {CHOICES}")  # fmt: skip


def nothing_named(source: str) -> WeightsError:
    return WeightsError("WM880", "the spec names no pretrained weights", f"--weights {source}",
                        "leave --weights out, or name a checkpoint in the spec")  # fmt: skip


def absent(named: Named, where: str | Path, why: str) -> WeightsError:
    return WeightsError("WM881", f"{named.title} cannot be loaded from {named.hub}: {why}", where,
                        "give a folder that holds it with --weights FOLDER, or start without it: "
                        "--weights random")  # fmt: skip


def no_loader(named: Named, found: str, known: Sequence[str]) -> WeightsError:
    return absent(named, named.place, f"{found} has no loader; there are: {', '.join(known)}")


def extra_missing(package: str) -> WeightsError:
    return WeightsError("WM881", f"{package} is not installed", package,
                        'install the extra: pip install "wmdsl[hub]"')  # fmt: skip


def misfit(named: Named, differences: Sequence[str]) -> WeightsError:
    shown = "; ".join(differences[:5]) + ("; ..." if len(differences) > 5 else "")
    return WeightsError("WM882", f"{named.hub} does not fit {named.title}: {shown}", named.place,
                        "take over the sizes of the checkpoint, or name another one")  # fmt: skip
