"""The demo: demonstrations, a world-model policy and its blind control, closed loop, report.

`python3 dev.py demo` runs it in a fresh environment; killed, it goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TASKS = ("drawer-open-v3", "button-press-topdown-v3", "push-v3", "faucet-open-v3",
         "faucet-close-v3")  # fmt: skip
BLIND_TASKS = TASKS[:3]
HARD_TASKS = ("push-v3",)  # shown five times as often
SWAPS = {"faucet-open-v3": "faucet-close-v3", "faucet-close-v3": "faucet-open-v3"}
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python3 dev.py demo",
        description="From a .wm file to a policy that works: real demonstrations from a simulator, "
        "training, closed-loop success beside a blind control, and a report that explains it.",
    )
    made.add_argument("--spec", type=Path, default=EXAMPLES / "hybrids" / "mot_fast.wm",
                      help="the spec to train")  # fmt: skip
    made.add_argument("-o", "--out", type=Path, default=Path("runs/demo"))
    made.add_argument("--demonstrations", type=int, default=80,
                      help="per task; the hard one gets five times as many")  # fmt: skip
    made.add_argument("--steps", type=int, default=2300, help="training steps")
    made.add_argument("--blind-steps", type=int, default=600, help="of the blind control")
    made.add_argument("--episodes", type=int, default=50, help="evaluation episodes per task")
    made.add_argument("--seed", type=int, default=0)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit codes are those of `wmdsl`."""
    from wmdsl.tools.cli import guarded

    try:
        return guarded(demo, parser().parse_args(arguments))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def demo(options: argparse.Namespace) -> int:
    """All four steps, each said before it begins."""
    from wmdsl.environments.demonstrate import demos
    from wmdsl.report import write_report
    from wmdsl.runtime.compare import Budget, compare
    from wmdsl.runtime.run import RunDirectory
    from wmdsl.runtime.settings import TrainSettings
    from wmdsl.tools import check, plan
    from wmdsl.tools.eval import lines

    started = time.monotonic()
    counts = {name: options.demonstrations * (5 if task in HARD_TASKS else 1)
              for name, task in zip(_named(TASKS), TASKS, strict=True)}  # fmt: skip
    _say(1, f"{sum(counts.values())} demonstrations of {len(TASKS)} tasks, by the simulator's "
         "scripted experts")  # fmt: skip
    data = options.out / "data"
    demos(_named(TASKS), counts, data, seed=options.seed)
    _say(2, f"check {options.spec.name} against the data, and plan it before a weight exists")
    if _run(check, str(options.spec), "--data", str(data)):
        return 1
    _run(plan, str(options.spec))
    _say(3, "train it, and the same spec blind; then 50 unseen seeds of each task in closed loop")
    budget = Budget(
        TrainSettings(steps=options.steps), (options.seed,), options.blind_steps,
        options.episodes, _named(BLIND_TASKS),
        {f"metaworld/{a}": f"metaworld/{b}" for a, b in SWAPS.items()},
    )  # fmt: skip
    runs = compare([options.spec], data, _named(TASKS), options.out, budget)
    minutes = (time.monotonic() - started) / 60
    report = write_report(
        runs, options.out / "report.html", f"wmdsl demo: {options.spec.stem}",
        f"{options.spec.name}, trained on {sum(counts.values())} demonstrations of "
        f"{len(TASKS)} Meta-World tasks, {options.steps} steps (blind control "
        f"{options.blind_steps}), evaluated on {options.episodes} unseen seeds each; "
        f"{minutes:.0f} minutes on this machine, without the installation.",
    )  # fmt: skip
    _say(4, f"done in {minutes:.1f} minutes")
    for path in runs:
        print("\n".join(lines(RunDirectory(path).read_json(path / "eval.json"))))
    print(f"\nthe report: {report}")
    return 0


def _run(verb: Any, *words: str) -> int:
    """A verb of the command line in this process."""
    words_parser = argparse.ArgumentParser()
    verb.arguments(words_parser)
    return verb.run(words_parser.parse_args(words))


def _named(tasks: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"metaworld/{task}" for task in tasks)


def _say(number: int, text: str) -> None:
    print(f"\n[{number}/4] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
