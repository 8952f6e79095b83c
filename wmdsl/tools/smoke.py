"""`wmdsl smoke`: does a spec run at all?  One training step and every query on random data."""

from __future__ import annotations

import argparse
import time

from wmdsl.tools.common import parameters_argument, weights_argument

EXAMPLE = "wmdsl smoke examples/paradigms/mot.wm"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the spec")
    parser.add_argument("--seed", type=int, default=0)
    weights_argument(parser)
    parameters_argument(parser)


def run(options: argparse.Namespace) -> int:
    from wmdsl.runtime.smoke import smoke

    started = time.perf_counter()
    for line in smoke(options.file, options.parameters, options.seed, options.weights):
        print(line)
    print(f"all of it in {time.perf_counter() - started:.1f} s")
    return 0
