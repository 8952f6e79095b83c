"""`wmdsl compare`: several specs under one budget, one report."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from wmdsl.tools.common import parameters_argument, swap_argument, weights_argument

EXAMPLE = (
    "wmdsl compare examples/paradigms examples/hybrids --data data/arm "
    "--env metaworld/push-v3,metaworld/drawer-open-v3 -o runs/compare"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("specs", nargs="+", type=Path, help="specs, or folders of specs")
    parser.add_argument("--data", required=True, type=Path, help="a LeRobot v3 data set")
    parser.add_argument("--env", required=True, help="environments, separated by commas")
    parser.add_argument("-o", "--out", required=True, type=Path, help="folder of runs and report")
    parser.add_argument("--steps", type=int, default=2000, help="training steps of each (2000)")
    parser.add_argument("--seeds", type=int, default=2, help="training seeds of each spec (2)")
    parser.add_argument("--blind-steps", type=int, default=500,
                        help="steps of each spec's blind control; 0: none (500)")  # fmt: skip
    parser.add_argument("--blind-env", help="environments of the blind control; all if absent")
    parser.add_argument("--episodes", type=int, default=50, help="per environment (50)")
    swap_argument(parser)
    parser.add_argument("--faithful", type=int, default=0, metavar="SITUATIONS",
                        help="also roll out, from so many per environment, every spec that "
                        "foresees pictures under given actions; 0: none (0)")  # fmt: skip
    parser.add_argument("--shuffled", action="store_true",
                        help="with --faithful: also train the baseline with shuffled actions")
    parser.add_argument("--probe-episodes", type=int, default=40,
                        help="with --faithful: per environment (40)")  # fmt: skip
    parser.add_argument("--probe-steps", type=int, default=800,
                        help="with --faithful: of its training (800)")  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1,
                        help="jobs beside each other")  # fmt: skip
    weights_argument(parser)
    parameters_argument(parser)


def run(options: argparse.Namespace) -> int:
    from wmdsl.environments.registry import names
    from wmdsl.report import write_report
    from wmdsl.runtime import errors
    from wmdsl.runtime.compare import Budget, Faithful, compare, spec_files
    from wmdsl.runtime.settings import TrainSettings

    settings = TrainSettings(steps=options.steps, batch_size=options.batch_size,
                             learning_rate=options.learning_rate)  # fmt: skip
    faithful = Faithful(options.faithful, options.probe_episodes, options.probe_steps,
                        options.shuffled) if options.faithful else None  # fmt: skip
    budget = Budget(
        settings, tuple(range(options.seeds)), options.blind_steps, options.episodes,
        names(options.blind_env) if options.blind_env else (),
        options.swap, options.parameters, options.weights, faithful,
    )  # fmt: skip
    specs = spec_files(options.specs)
    if not specs:
        raise errors.out_of_range("specs", " ".join(map(str, options.specs)),
                                  "a spec, or a folder with .wm files")  # fmt: skip
    runs = compare(specs, options.data, names(options.env), options.out, budget,
                   workers=options.workers)  # fmt: skip
    given = "".join(f"; {name} = {value}" for name, value in options.parameters.items())
    report = write_report(
        runs, options.out / "report.html", f"{len(specs)} specs under one budget",
        f"{options.steps} steps of {options.batch_size} samples each, {options.seeds} training "
        f"seeds, {options.episodes} unseen seeds per task; blind controls {options.blind_steps} "
        f"steps{given}.",
    )  # fmt: skip
    print(report)
    return 0
