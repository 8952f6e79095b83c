"""`wmdsl diff`: what changed between two specs, what follows from it, and which weights load."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from wmdsl.driver import SpecError
from wmdsl.plan.compare import compare, comparison_text, in_short
from wmdsl.resolve.diff import Change, diff_text
from wmdsl.resolve.diff import diff as changes
from wmdsl.tools.canon import resolved
from wmdsl.tools.common import parameters_argument, show
from wmdsl.tools.plan import plan

EXAMPLE = "wmdsl diff examples/paradigms/mot.wm examples/hybrids/mot_latent.wm"


def diff(first: str, second: str, parameters: Mapping[str, object]) -> tuple[Change, ...]:
    """What changed in streams, parts, edges, masks, losses and queries; raises SpecError."""
    return changes(resolved(first, parameters), resolved(second, parameters))


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="a spec, or one model of it as FILE:MODEL")
    parser.add_argument("second", metavar="B", help="the spec it is compared with")
    parameters_argument(parser)


def run(options: argparse.Namespace) -> int:
    found = diff(options.first, options.second, options.parameters)
    try:
        plans = [plan(path, options.parameters) for path in (options.first, options.second)]
    except SpecError as error:
        sys.stdout.write(diff_text(found))
        show(error.diagnostics)
        return 1
    comparison = compare(*plans)
    if found:
        written = [change.in_short for change in found]
        sys.stdout.write(in_short(*plans, comparison, written) + "\n")
    sys.stdout.write(diff_text(found) + "\n" + comparison_text(comparison))
    return 0
