"""What a report knows of a run, read from its files alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmdsl.runtime.run import RunDirectory


@dataclass(frozen=True, slots=True)
class Finished:
    """One trained and evaluated run."""

    path: Path
    plan: dict[str, Any]
    training: dict[str, Any]
    evaluation: dict[str, Any]
    metrics: tuple[dict[str, float], ...]
    faithful: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Finished:
        run = RunDirectory(path)
        evaluation = run.read_json(run.evaluation) if run.evaluation.exists() else {}
        lines = run.metrics.read_text(encoding="utf-8").splitlines() if run.metrics.exists() else ()
        return cls(
            path,
            run.read_json(run.plan),
            run.read_json(run.training),
            evaluation,
            tuple(json.loads(line) for line in lines),
            run.read_json(run.faithful) if run.faithful.exists() else {},
        )

    @property
    def model(self) -> str:
        return self.plan["model"]

    @property
    def blind(self) -> bool:
        return bool(self.training["settings"]["blind"])

    @property
    def seed(self) -> int:
        return int(self.training["settings"]["seed"])

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """Results by task name; empty where the run was not evaluated."""
        return {result["task"]: result for result in self.evaluation.get("tasks", ())}


@dataclass(frozen=True, slots=True)
class Entry:
    """One spec of a comparison: its sighted runs over seeds and its blind ones."""

    model: str
    sighted: tuple[Finished, ...]
    blind: tuple[Finished, ...]

    @property
    def plan(self) -> dict[str, Any]:
        return (self.sighted or self.blind)[0].plan


def group(runs: Iterable[Finished]) -> tuple[Entry, ...]:
    """Runs by model, in the order of first appearance."""
    by_model: dict[str, list[Finished]] = {}
    for run in runs:
        by_model.setdefault(run.model, []).append(run)
    return tuple(
        Entry(model, tuple(r for r in found if not r.blind), tuple(r for r in found if r.blind))
        for model, found in by_model.items()
    )
