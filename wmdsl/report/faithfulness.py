"""The faithfulness of a comparison's runs: who can be asked, what was found, does it predict.

In: sighted runs with their files. Out: plain data, for the page and for `faithful.json`.
Invariant: a number stands here only where a run's own files hold it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from wmdsl.environments.intervals import wilson_interval
from wmdsl.report.page import CANONICAL
from wmdsl.report.runs import Entry, Finished
from wmdsl.runtime.faithful.statistics import rank_correlation

FORMAT_VERSION = 1
HORIZON_SECONDS = 1.0
SHOWN = ("retrieval", "retrieval_hand", "hand", "sensitivity", "spread")
EXACT = 8  # up to so many runs all orders are counted, beyond so many are drawn
DRAWS = 20_000
NOTHING_FORESEEN = "none"  # the id of the last rule of docs/paradigm-table.md


def faithfulness(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Everything about the suite; None where no run was put through it."""
    runs = [run for entry in entries for run in entry.sighted]
    measured = [_row(run) for run in runs if run.faithful]
    if not measured:
        return None
    return {
        "format_version": FORMAT_VERSION,
        "runs": measured,
        "not_asked": list(_not_asked(entries)),
        "correlation": {name: _correlation(measured, name) for name in ("retrieval", "hand")},
        "specs": [_spec(entry, entries) for entry in entries],
    }


def _row(run: Finished) -> dict[str, Any]:
    """What one run's suite found near one second ahead, beside its baselines."""
    report = run.faithful
    at = min(range(len(report["horizons"])),
             key=lambda index: abs(report["horizons"][index] - HORIZON_SECONDS))  # fmt: skip
    parts = report["environments"]
    systems = (parts.get("all") or next(iter(parts.values())))["systems"]
    return {
        "model": run.model,
        "seed": run.seed,
        "run": run.path.name,
        "horizon": report["horizons"][at],
        "held": report["streams"]["held"],
        "first_beyond": systems["model"]["first_beyond"],
        "rank_correlation": systems["model"]["rank_correlation"],
        "systems": {
            name: {key: values[key][at] for key in SHOWN if key in values}
            for name, values in systems.items()
        },
        "success": _success([run]),
    }


def _success(runs: Sequence[Finished]) -> dict[str, int | float] | None:
    """Successes over episodes of all tasks; None where nothing was evaluated."""
    results = [result for run in runs for result in run.tasks.values()]
    episodes = sum(result["episodes"] for result in results)
    if not episodes:
        return None
    successes = sum(result["successes"] for result in results)
    return {"successes": successes, "episodes": episodes, "share": successes / episodes}


def _not_asked(entries: Sequence[Entry]) -> Iterator[dict[str, str]]:
    """Specs that no roll-out under given actions exists for, with the compiler's reason."""
    import wmdsl
    from wmdsl.plan.advance import NoRollOut, roll_out

    for entry in entries:
        run = (entry.sighted or entry.blind)[0]
        try:
            roll_out(wmdsl.plan((run.path / "model.wm").read_text(encoding="utf-8")))
        except NoRollOut as reason:
            yield {"model": entry.model, "because": str(reason)}


def _correlation(rows: Sequence[dict[str, Any]], key: str) -> dict[str, float] | None:
    """Spearman's correlation over runs of success with faithfulness, and how often chance orders
    the runs at least as well; errors count as minus their size.  None of fewer than three runs.
    """
    sign = -1 if key == "hand" else 1
    pairs = [
        (sign * row["systems"]["model"][key][0], row["success"]["share"])
        for row in rows
        if row["success"]
    ]
    if len(pairs) < 3:
        return None
    faithful, success = np.array(pairs).T
    rho = rank_correlation(faithful, success)
    others = [abs(rank_correlation(faithful, order)) for order in _orders(success)]
    chance = float(np.mean(np.array(others) >= abs(rho) - 1e-12))
    return {"rho": rho, "runs": len(pairs), "chance": chance}


def _orders(values: np.ndarray) -> Iterator[np.ndarray]:
    if len(values) <= EXACT:
        yield from map(np.array, permutations(values))
        return
    draws = np.random.default_rng(0)
    for _ in range(DRAWS):
        yield draws.permutation(values)


def _spec(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    """What a spec can be asked, what its visual branch costs, and what it buys."""
    plan = entry.plan
    latency = entry.sighted[0].evaluation.get("latency_ms", {}) if entry.sighted else {}
    plain = [run for other in entries if _plain(other) for run in other.sighted]
    asked = {**plan["canonical_queries"], **plan["queries"]}
    return {
        "model": entry.model,
        "asked": {name: plan["canonical_queries"][name]["answerable"] for name in CANONICAL},
        "parameters": plan["params"]["total"],
        "train_flops": plan["train_flops"],
        "flops": {name: asked[name]["flops"] for name in ("policy", "joint") if name in asked},
        "milliseconds": {name: latency[name] for name in ("policy", "joint") if name in latency},
        "success": _success(entry.sighted),
        "gain": None if _plain(entry) else _gain(_success(entry.sighted), _success(plain)),
    }


def _plain(entry: Entry) -> bool:
    """Whether a spec foresees nothing."""
    return entry.plan["paradigm"]["id"] == NOTHING_FORESEEN


def _gain(first: dict | None, second: dict | None) -> list[float] | None:
    """Difference of two shares of successes with Newcombe's 95 % interval."""
    if first is None or second is None:
        return None
    (one, low, high), (other, below, above) = (_wilson(part) for part in (first, second))
    apart = one - other
    return [
        apart,
        apart - math.hypot(one - low, above - other),
        apart + math.hypot(high - one, other - below),
    ]


def _wilson(part: dict[str, Any]) -> tuple[float, float, float]:
    return part["share"], *wilson_interval(part["successes"], part["episodes"])
