"""A run directory back as a module: spec, weights and statistics that belong together."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from wmdsl.runtime import errors
from wmdsl.runtime.run import RunDirectory

if TYPE_CHECKING:
    from torch import nn


def load_run(path: str | Path) -> nn.Module:
    """The trained module of a run, in evaluation mode.

    Everything is read as data: the spec is compiled anew, the weights are safetensors.  Raises
    RunError where files are missing, the spec was edited, or the weights do not fit it.
    """
    import wmdsl
    from wmdsl.runtime.checkpoint import load_into
    from wmdsl.weights import start_from

    run = RunDirectory(Path(path))
    described, spec = run.read_json(run.training), run.read_text(run.spec)
    found = hashlib.sha256(spec.encode()).hexdigest()
    if found != described["spec_sha256"]:
        raise errors.other_spec(run.spec, described["spec_sha256"], found)
    module = wmdsl.compile(spec)
    start_from(module, described.get("weights"))
    try:
        module.load_statistics(run.read_json(run.statistics))
    except (KeyError, TypeError, ValueError) as fault:
        raise errors.unfit_statistics(run.statistics, fault) from None
    load_into(module, run.weights)
    return module.eval()
