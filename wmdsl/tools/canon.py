"""`wmdsl canon`: the resolved spec, every default written out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from wmdsl import driver
from wmdsl.diagnostics import Diagnostics
from wmdsl.resolve import Spec
from wmdsl.resolve.canon import canon as canonical
from wmdsl.resolve.canon import identity
from wmdsl.syntax import read_source
from wmdsl.tools.common import parameters_argument, spec_path

EXAMPLE = "wmdsl canon examples/paradigms/mot.wm -P chunk=32"


def resolved(text: str, parameters: Mapping[str, object]) -> Spec:
    """The closed spec of `file.wm` or `file.wm:model`; raises SpecError."""
    path, model = spec_path(text)
    diagnostics = Diagnostics()
    source = read_source(path, diagnostics)
    options = driver.Options(parameters, model=model, stop_after="resolve")
    spec = driver.run(source, options, diagnostics) if source is not None else None
    if spec is None or diagnostics.has_errors:
        raise driver.SpecError(diagnostics.sorted())
    return spec


def canon(path: str, parameters: Mapping[str, object]) -> str:
    """The canonical text; its SHA-256 is the model's identity."""
    return canonical(resolved(path, parameters))


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a spec, or one model of it as FILE:MODEL")
    parser.add_argument("--hash", action="store_true", help="print the SHA-256 only")
    parameters_argument(parser)


def run(options: argparse.Namespace) -> int:
    text = canon(options.file, options.parameters)
    sys.stdout.write(f"{identity(text)}\n" if options.hash else text)
    return 0
