"""Models that a checkpoint of transformers holds as a part of a larger one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wmdsl.weights import errors
from wmdsl.weights.library import imported
from wmdsl.weights.named import Named
from wmdsl.weights.report import PartReport
from wmdsl.weights.source import Checkpoint, names_of, tensors


def config_of(named: Named, checkpoint: Checkpoint) -> Any:
    """The library's configuration of a checkpoint of transformers."""
    try:
        load = imported("transformers").AutoConfig.from_pretrained
        return load(str(checkpoint.folder), local_files_only=True)
    except (OSError, ValueError) as reason:
        raise errors.absent(named, checkpoint.folder, str(reason).strip().splitlines()[0]) from None


def piece_of(
    named: Named, checkpoint: Checkpoint, model: Any, prefixes: Sequence[str]
) -> PartReport:
    """Fill a library's model from a checkpoint of a larger one, where its names have a prefix.

    The first of the prefixes counts that any name begins with; everything else is unused.
    Raises WeightsError where weights are missing or of another shape.
    """
    names = names_of(named, checkpoint)
    prefix = next((p for p in prefixes if any(name.startswith(p) for name in names)), "")
    given = tensors(named, checkpoint, prefix)
    own = model.state_dict()
    plain = {name.removeprefix(prefix): value for name, value in given.items()}
    wrong = [f"the checkpoint lacks {prefix}{name}" for name in sorted(own.keys() - plain.keys())]
    wrong += [
        f"{prefix}{name} is {list(plain[name].shape)}, not {list(value.shape)}"
        for name, value in own.items()
        if name in plain and plain[name].shape != value.shape
    ]
    if wrong:
        raise errors.misfit(named, wrong)
    model.load_state_dict({name: plain[name] for name in own})
    used = tuple(f"{prefix}{name}" for name in own)
    unused = tuple(sorted(set(names) - set(used)))
    return PartReport(named.title, named.hub, used, (), unused)
