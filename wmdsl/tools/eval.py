"""`wmdsl eval`: closed-loop success of a trained run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wmdsl.tools.common import device_argument, swap_argument

EXAMPLE = "wmdsl eval runs/mot --env metaworld/push-v3,metaworld/drawer-open-v3 --episodes 50"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder of `wmdsl train`")
    parser.add_argument("--env", required=True, help="environments, separated by commas")
    parser.add_argument("--episodes", type=int, default=50, help="per environment (50)")
    parser.add_argument("--query", default="policy", help="the query that acts (policy)")
    parser.add_argument("--execute", type=int, metavar="N",
                        help="actions of a chunk to execute (as the query declares)")  # fmt: skip
    parser.add_argument("--ensemble", type=float, metavar="DECAY",
                        help="average overlapping chunks (as the query declares)")  # fmt: skip
    parser.add_argument("--prefetch", action="store_true",
                        help="act on what was seen one chunk ago, inferring meanwhile")  # fmt: skip
    device_argument(parser)
    parser.add_argument("--graph", action="store_true",
                        help="on a GPU, replay the query as CUDA graphs")  # fmt: skip
    parser.add_argument("--planner", metavar="NAMES",
                        help="declared planners that act instead of a query")  # fmt: skip
    parser.add_argument("--limit", type=int, default=160,
                        help="longest episode of a planner in control steps (160)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of evaluation seeds and noise (0)")
    parser.add_argument("--videos", type=int, default=2, help="episodes filmed per environment (2)")
    parser.add_argument("--workers", type=int, help="processes that step and render")
    swap_argument(parser)
    parser.add_argument("--strips", action="store_true",
                        help="also write film strips, imagined against real")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    from wmdsl.environments.registry import names
    from wmdsl.runtime.device import named
    from wmdsl.runtime.evaluate import evaluate_run
    from wmdsl.runtime.session import SessionSettings

    if options.planner:
        return _plan(options)
    report = evaluate_run(
        options.run, names(options.env), options.episodes, query=options.query, seed=options.seed,
        session=SessionSettings(
            options.execute, options.ensemble, options.prefetch, graph=options.graph
        ),
        device=named(options.device), swaps=options.swap, workers=options.workers,
        videos=options.videos, strips=options.strips,
    )  # fmt: skip
    for line in lines(report):
        print(line)
    return 0


def _plan(options: argparse.Namespace) -> int:
    """Planners in closed loop, each in the same episodes."""
    from wmdsl.environments.registry import names
    from wmdsl.runtime.device import named
    from wmdsl.runtime.planning import PlanningSettings, plan_run

    settings = PlanningSettings(options.episodes, options.limit, options.seed)
    (environment, *more) = names(options.env)
    if more:
        print("error: --planner takes one environment", file=sys.stderr)
        return 2
    if options.graph:
        print("error: --graph is for queries; a planner's search is not captured", file=sys.stderr)
        return 2
    planners = options.planner.split(",")
    report = plan_run(options.run, planners, environment, settings, device=named(options.device))
    for name, result in report["planners"].items():
        low, high = (100 * end for end in result["interval"])
        near, least, most = (100 * value for value in result["distance"])
        print(f"{name:<16}{100 * result['success']:4.0f} %  [{low:.0f}, {high:.0f}]  "
              f"{near:.1f} cm from the goal [{least:.1f}, {most:.1f}]")  # fmt: skip
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
