"""`wmdsl faithful`: does the imagined future follow the actions, and for how long?"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = "wmdsl faithful runs/world --env metaworld/reach-v3 --shuffled runs/world-shuffled"
SHOWN = {"image": "image", "hand": "hand m", "retrieval": "retrieval"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder of `wmdsl train`")
    parser.add_argument("--env", required=True, help="environments, separated by commas")
    parser.add_argument("--query", help="the query rolled out; the spec's controllable one")
    parser.add_argument("--shuffled", type=Path, metavar="RUN",
                        help="baseline: the same with --shuffle-actions")  # fmt: skip
    parser.add_argument("--situations", type=int, default=24, help="per environment (24)")
    parser.add_argument("--steps", type=int, default=100, help="control steps rolled (100)")
    parser.add_argument("--random", type=int, default=2, help="random sequences (2)")
    parser.add_argument("--threshold", type=float, default=0.05,
                        help="hand error in metres that ends a usable roll-out (0.05)")  # fmt: skip
    parser.add_argument("--probe-episodes", type=int, default=40, help="per environment (40)")
    parser.add_argument("--probe-steps", type=int, default=800, help="of its training (800)")
    parser.add_argument("--seed", type=int, default=0, help="of situations and noise (0)")
    parser.add_argument("--strips", type=int, default=2, help="film strips per environment (2)")


def run(options: argparse.Namespace) -> int:
    from wmdsl.environments.registry import names
    from wmdsl.report.faithful import write_pictures
    from wmdsl.runtime.faithful.probe import ProbeSettings
    from wmdsl.runtime.faithful.suite import FaithfulSettings, faithful_run

    finding = faithful_run(
        options.run,
        names(options.env),
        FaithfulSettings(
            options.situations, options.steps, options.random, options.threshold, options.seed,
            options.query,
        ),
        shuffled=options.shuffled,
        probe=ProbeSettings(options.probe_episodes, options.probe_steps),
    )  # fmt: skip
    for line in lines(finding.report):
        print(line)
    for path in write_pictures(finding, options.run, options.strips):
        print(path)
    return 0


def lines(report: dict) -> list[str]:
    """A table per environment: systems by row, first and last horizon by column."""
    found = []
    first, last = report["horizons"][0], report["horizons"][-1]
    for name, part in report["environments"].items():
        found.append(f"{name}: {part['situations']} situations, 95 % intervals")
        titles = [f"{title} {at:.2f} s" for title in SHOWN.values() for at in (first, last)]
        found.append("  " + " " * 10 + "".join(f"{title:<24}" for title in titles))
        for system, values in part["systems"].items():
            cells = [_cell(values[key][at]) for key in SHOWN for at in (0, -1)]
            found.append(f"  {system:<10}" + "".join(f"{cell:<24}" for cell in cells))
    return found + _remarks(report)


def _cell(estimate: list[float]) -> str:
    value, low, high = estimate
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _remarks(report: dict) -> list[str]:
    """What the reader must know to judge the numbers."""
    held = report["streams"]["held"]
    remarks = [f"restored states differ by {report['restore_difference']:g}"]
    if held:
        remarks.append(f"held at their last real samples: {', '.join(held)}")
    if report["streams"]["read_by_probe"]:
        remarks.append("the state is read off imagined frames by the probe")
    if report["baseline"] is None:
        remarks.append("no baseline with shuffled actions: train one with --shuffle-actions")
    return remarks
