"""`wmdsl query`: ask a trained run any query on recorded data."""

from __future__ import annotations

import argparse
from pathlib import Path

from wmdsl.tools.common import device_argument

EXAMPLE = "wmdsl query runs/mot --query controllable --data data/arm --samples 8 -o answers"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder of `wmdsl train`")
    parser.add_argument("--query", required=True,
                        help="a declared query, or passive, controllable, inverse")  # fmt: skip
    parser.add_argument("--data", required=True, type=Path, help="a LeRobot v3 data set")
    parser.add_argument("--samples", type=int, default=8, help="moments of the data (8)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the noise (0)")
    parser.add_argument("--log-density", action="store_true",
                        help="how likely the data's own answers are, in nats")  # fmt: skip
    device_argument(parser)
    parser.add_argument("-o", "--out", required=True, type=Path,
                        help="folder for answer.safetensors and pictures")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    from wmdsl.runtime.ask import ask_run, score_run
    from wmdsl.runtime.device import named

    asked = (options.run, options.query, options.data, options.out, options.samples, options.seed,
             named(options.device))  # fmt: skip
    if options.log_density:
        path, mean, error = score_run(*asked)
        print(f"{path}\nlog-density {mean:.2f} nats, standard error {error:.2f}")
        return 0
    for path in ask_run(*asked):
        print(path)
    return 0
