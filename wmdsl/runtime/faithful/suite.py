"""A run, its baselines and the simulator on the same counterfactual situations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from wmdsl.environments import registry
from wmdsl.environments.base import SUPERSAMPLE, Environment
from wmdsl.environments.counterfactual import Situation, sequence_names, situation
from wmdsl.plan.advance import Advance, NoRollOut, roll_out
from wmdsl.progress import Progress
from wmdsl.runtime import errors
from wmdsl.runtime.faithful.measure import Measured, Seen, Truth, measure, see, summary
from wmdsl.runtime.faithful.probe import Probe, ProbeSettings, hand_places, train_probe
from wmdsl.runtime.faithful.rollouts import (
    Imagination,
    RollOut,
    copy_last,
    imagination,
    imagine,
    simulator,
    start_of,
)
from wmdsl.runtime.faithful.windows import course, filming
from wmdsl.runtime.load import load_run
from wmdsl.runtime.run import RunDirectory, write_json

FORMAT_VERSION = 1
POOLED = "all"


@dataclass(frozen=True, slots=True)
class FaithfulSettings:
    """What is rolled: `situations` per environment, at least `steps` control steps each.

    `random` counts the random sequences beside the fixed ones; `threshold` is the hand error in
    metres that ends a usable roll-out.
    """

    situations: int = 24
    steps: int = 100
    random: int = 2
    threshold: float = 0.05
    seed: int = 0
    query: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """The report, and the frames it was made of by system [N, K, C, 3, H, W] for film strips."""

    report: dict[str, Any]
    frames: dict[str, np.ndarray]


def faithful_run(
    path: str | Path,
    environments: Sequence[str],
    settings: FaithfulSettings | None = None,
    *,
    shuffled: str | Path | None = None,
    probe: ProbeSettings | None = None,
    progress: bool = True,
) -> Finding:
    """Measure how far a run's imagination follows its actions; writes `faithful.json` in the run.

    `shuffled` is a run of the same spec trained with `--shuffle-actions`. Raises RunError where
    the spec cannot be rolled out (with the compiler's reason), does not fit the environment, or
    the baseline is of another spec.
    """
    settings = settings or FaithfulSettings()
    run = RunDirectory(Path(path))
    module = load_run(run.path)
    advance = _advance(module, settings.query)
    baseline = _baseline(Path(shuffled), module) if shuffled else None
    training = run.read_json(run.training)
    supersample = training["recording"].get("supersample", SUPERSAMPLE)
    made = [registry.make(name, supersample) for name in environments]
    try:
        suite = _Suite(module, advance, made, settings, probe or ProbeSettings(), progress)
        finding = suite.run(baseline)
    finally:
        for environment in made:
            environment.close()
    head = {"run": run.path.name, "baseline": Path(shuffled).name if shuffled else None}
    report = {"format_version": FORMAT_VERSION, **head, **finding.report}
    write_json(run.faithful, report)
    return Finding(report, finding.frames)


class _Suite:
    """One measurement: situations and probe are made once and serve every system."""

    def __init__(
        self,
        module: nn.Module,
        advance: Advance,
        environments: list[Environment],
        settings: FaithfulSettings,
        probe: ProbeSettings,
        progress: bool,
    ) -> None:
        self.module, self.advance, self.settings = module, advance, settings
        self.environments, self.progress, self.probe_settings = environments, progress, probe
        self.model = module.plan.model
        self.hand = hand_places(environments[0])
        spec = environments[0].spec
        self.course = course(self.model, advance, spec, settings.steps)
        self.filming = filming(self.model, spec, self.course)

    def run(self, baseline: nn.Module | None) -> Finding:
        """Film the situations, train the probe, roll everything out, compare."""
        situations = self._situations()
        probe = self._probe()
        how = {"model": imagination(self.module, self.advance, probe)}
        if baseline is not None:
            how["shuffled"] = imagination(baseline, self.advance, probe)
        rolls, again = self._roll(how, situations)
        count = len(situations)
        seen = {name: see(probe, roll, self.hand, count) for name, roll in rolls.items()}
        others = {name: see(probe, roll, self.hand, count) for name, roll in again.items()}
        truth = self._truth(seen["simulator"], situations)
        measured = {
            name: measure(seen[name], truth, _recovered(rolls[name], count), others.get(name))
            for name in rolls
        }
        report = self._report(measured, situations, how["model"])
        frames = {
            name: roll.frames.unflatten(0, (count, -1)).numpy() for name, roll in rolls.items()
        }
        return Finding(report, frames)

    def _roll(
        self, how: dict[str, Imagination], situations: list[Situation]
    ) -> tuple[dict[str, RollOut], dict[str, RollOut]]:
        """Every system's roll-out, and once more under other noise where there is any."""
        seed = self.settings.seed
        start, actions = start_of(self.model, self.advance, situations, self.course)
        rolls = {
            "simulator": simulator(how["model"], situations, self.course, seed),
            "copy": copy_last(self.model, self.advance, start, self.course),
        }
        again = {}
        with Progress(self.progress, "rolling out", 2 * len(how) * len(actions)) as bar:
            for name, one in how.items():
                rolls[name] = imagine(one, start, actions, 2 * seed, bar)
                again[name] = imagine(one, start, actions, 2 * seed + 1, bar)
        return rolls, again

    def _situations(self) -> list[Situation]:
        settings = self.settings
        found = []
        total = settings.situations * len(self.environments)
        with Progress(self.progress, "situations in the simulator", total) as bar:
            for environment in self.environments:
                for number in range(settings.situations):
                    found.append(
                        situation(
                            environment, settings.seed, number, self.course.rows, self.filming,
                            settings.random,
                        )
                    )  # fmt: skip
                    bar.advance()
        return found

    def _probe(self) -> Probe:
        key = self.model.streams[self.advance.frames].key
        camera = key.rpartition(".")[2]
        return train_probe(
            self.environments, camera, self.filming.size, self.probe_settings, self.progress
        )

    def _truth(self, seen: Seen, situations: Sequence[Situation]) -> Truth:
        ends = [row + self.course.steps for row in self.course.boundaries]
        hands = np.array(
            [
                [[track.state(row)[self.hand] for row in ends] for track in place.tracks]
                for place in situations
            ]
        )
        actions = np.array([[track.actions for track in place.tracks] for place in situations])
        shape = (*actions.shape[:2], self.course.chunks, self.course.steps, -1)
        return Truth(seen, hands, actions.reshape(shape))

    def _report(
        self,
        measured: dict[str, Measured],
        situations: Sequence[Situation],
        how: Imagination,
    ) -> dict[str, Any]:
        settings, course = self.settings, self.course
        names = [place.environment for place in situations]
        groups = {
            name: np.flatnonzero([found == name for found in names])
            for name in dict.fromkeys(names)
        }
        if len(groups) > 1:
            groups[POOLED] = np.arange(len(names))
        return {
            "spec_sha256": self.model.sha256,
            "query": self.advance.query,
            "inverse": how.inverse,
            "inverse_because": None if how.inverse else _no_inverse(self.module),
            "settings": asdict(settings),
            "probe": asdict(self.probe_settings),
            "sequences": list(sequence_names(settings.random)),
            "steps": course.rows,
            "chunk": course.steps,
            "horizons": course.horizons.tolist(),
            "streams": {
                "predicted": list(self.advance.predicted),
                "read_by_probe": [how.read] if how.read else [],
                "held": list(how.held),
            },
            "seeds": [place.seed for place in situations],
            "starts": [place.start for place in situations],
            "restore_difference": max(place.difference for place in situations),
            "environments": {
                name: {
                    "situations": len(rows),
                    "systems": {
                        system: summary(
                            one, rows, course.horizons, settings.threshold, settings.seed
                        )
                        for system, one in measured.items()
                    },
                }
                for name, rows in groups.items()
            },
        }


def _advance(module: nn.Module, query: str | None) -> Advance:
    try:
        return roll_out(module.plan, query)
    except NoRollOut as reason:
        raise errors.not_controllable(query or "controllable", str(reason)) from None


def _baseline(path: Path, module: nn.Module) -> nn.Module:
    run = RunDirectory(path)
    described = run.read_json(run.training)
    if described["spec_sha256"] != module.plan.model.sha256:
        raise errors.other_spec(path, described["spec_sha256"], module.plan.model.sha256)
    if not described["settings"].get("shuffle_actions"):
        raise errors.not_shuffled(path)
    return load_run(path)


def _recovered(roll: RollOut, situations: int) -> np.ndarray | None:
    if roll.recovered is None:
        return None
    return roll.recovered.unflatten(0, (situations, -1)).numpy()


def _no_inverse(module: nn.Module) -> str:
    canonical = module.plan.canonical_queries["inverse_dynamics"]
    return canonical.because if canonical.answerable == "no" else "the spec declares no such query"
