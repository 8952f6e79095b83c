"""`wmdsl eval`: closed-loop success of a trained run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLE = "wmdsl eval runs/mot --env metaworld/push-v3,metaworld/drawer-open-v3 --episodes 50"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder of `wmdsl train`")
    parser.add_argument("--env", required=True, help="environments, separated by commas")
    parser.add_argument("--episodes", type=int, default=50, help="per environment (50)")
    parser.add_argument("--query", default="policy", help="the query that acts (policy)")
    parser.add_argument("--seed", type=int, default=0, help="of evaluation seeds and noise (0)")
    parser.add_argument("--videos", type=int, default=2, help="episodes filmed per environment (2)")
    parser.add_argument("--workers", type=int, help="processes that step and render")
    parser.add_argument("--swap", action="append", default=[], metavar="ENV=OTHER",
                        help="also give ENV the instruction of OTHER")  # fmt: skip
    parser.add_argument("--strips", action="store_true",
                        help="also write film strips, imagined against real")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    from wmdsl.environments.registry import names
    from wmdsl.runtime.evaluate import evaluate_run

    swaps = dict(pair.split("=", 1) for pair in options.swap if "=" in pair)
    if len(swaps) != len(options.swap):
        print("error: --swap wants ENV=OTHER", file=sys.stderr)
        return 2
    report = evaluate_run(
        options.run, names(options.env), options.episodes, query=options.query, seed=options.seed,
        swaps=swaps, workers=options.workers, videos=options.videos, strips=options.strips,
    )  # fmt: skip
    for line in lines(report):
        print(line)
    return 0


def lines(report: dict) -> list[str]:
    """Success per task as text, the swapped ones behind the others."""
    kind = " (blind)" if report["blind"] else ""
    shown = [(result, kind) for result in report["tasks"]]
    shown += [(result, " (swapped instruction)") for result in report.get("swapped", ())]
    return [_line(result, kind) for result, kind in shown]


def _line(result: dict, kind: str) -> str:
    low, high = (100 * end for end in result["interval"])
    share = f"{result['successes']}/{result['episodes']}"
    return (f"{result['task'] + kind:<52}{100 * result['success']:4.0f} %  "
            f"[{low:.0f}, {high:.0f}]  {share}")  # fmt: skip
