"""`wmdsl demos`: real demonstrations from a simulator's scripted expert."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = "wmdsl demos metaworld/push-v3,metaworld/drawer-open-v3 --episodes 100 -o data/arm"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("env", metavar="ENV", help="environments, separated by commas")
    parser.add_argument("--episodes", type=int, default=100, help="per environment (100)")
    parser.add_argument("-o", "--out", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cameras", default="corner,wrist", help="corner,wrist")
    parser.add_argument("--camera-hz", type=int, default=20, help="frames per second (20)")
    parser.add_argument("--size", type=int, default=64, help="side of a frame in pixels (64)")
    parser.add_argument("--supersample", type=int, default=2,
                        help="render larger and average down (2)")  # fmt: skip
    parser.add_argument("--tail", type=int, default=32,
                        help="rows behind the first success (32)")  # fmt: skip
    parser.add_argument("--explore", type=float, default=0.0, metavar="SHARE",
                        help="share of spans of 0.2 s with a random action (0)")  # fmt: skip
    parser.add_argument("--workers", type=int, help="processes; all cores if absent")


def run(options: argparse.Namespace) -> int:
    from wmdsl.environments.demonstrate import demos

    summary = demos(
        options.env, options.episodes, options.out, seed=options.seed,
        cameras=tuple(options.cameras.split(",")), camera_hz=options.camera_hz,
        size=options.size, supersample=options.supersample, tail=options.tail,
        explore=options.explore, workers=options.workers,
    )  # fmt: skip
    for name, kept in summary.episodes.items():
        print(f"{name}: {kept} episodes, {summary.failures[name]} failures of the expert")
    print(f"{summary.root}: {summary.rows} rows in {summary.seconds:.0f} s")
    return 0
