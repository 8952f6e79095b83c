"""Closed loops of declared planners: the goal is where the expert's own episode ended.

Every planner gets the same episodes, goals and noise. One simulator serves all episodes, because
its states are restored exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wmdsl.check.model import Model, Planner, Stream
from wmdsl.data import keys
from wmdsl.data.text import encode_text
from wmdsl.environments import registry
from wmdsl.environments.base import SUPERSAMPLE, Environment
from wmdsl.environments.intervals import wilson_interval
from wmdsl.environments.seeds import Purpose, episode_seed
from wmdsl.progress import Progress
from wmdsl.runtime import errors
from wmdsl.runtime.binding import VIDEO
from wmdsl.runtime.faithful.probe import hand_places
from wmdsl.runtime.faithful.statistics import bootstrap_mean
from wmdsl.runtime.load import load_run
from wmdsl.runtime.run import RunDirectory, write_json

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class PlanningSettings:
    """`limit` is the longest episode in control steps; an expert may take as long to its goal.

    The goal is what is seen `settle` steps after the expert's success, when it has come to rest.
    """

    episodes: int = 20
    limit: int = 160
    seed: int = 0
    settle: int = 32


@dataclass(frozen=True, slots=True)
class Task:
    """One episode: the state it starts from, and what the expert's end looked like."""

    seed: int
    start: Any
    goal: dict[str, np.ndarray]
    hand: np.ndarray


@dataclass(slots=True)
class _Episode:
    """Where an episode stands under one planner."""

    task: Task
    state: Any
    steps: int = 0
    success: bool = False
    distance: float = float("inf")
    nearest: float = float("inf")
    plan: Tensor | None = None


def plan_run(
    path: str | Path,
    planners: Sequence[str],
    environment: str,
    settings: PlanningSettings | None = None,
    *,
    progress: bool = True,
) -> dict[str, Any]:
    """Let declared planners act in closed loop; writes `planner.json` in the run.

    The goal of an episode is the expert's last observation in the same episode, which the planner
    is shown as a picture or a state, as its spec declares: the goal-conditioned protocol. Raises
    RunError for planners that the spec does not declare, or that cannot act here.
    """
    settings = settings or PlanningSettings()
    run = RunDirectory(Path(path))
    module = load_run(run.path)
    declared = [_declared(module, name) for name in planners]
    recording = run.read_json(run.training)["recording"]
    world = registry.make(environment, recording.get("supersample", SUPERSAMPLE))
    try:
        loop = _Loop(module, world, settings)
        tasks = loop.tasks(declared, progress)
        results = {one.name: loop.run(one, tasks, progress) for one in declared}
    finally:
        world.close()
    report = {
        "format_version": FORMAT_VERSION,
        "environment": environment,
        "settings": asdict(settings),
        "seeds": [task.seed for task in tasks],
        "planners": results,
    }
    write_json(run.path / "planner.json", report)
    return report


class _Loop:
    """One simulator, many episodes."""

    def __init__(self, module: nn.Module, world: Environment, settings: PlanningSettings) -> None:
        self.module, self.world, self.settings = module, world, settings
        self.model: Model = module.plan.model
        self.hand = hand_places(world)
        sizes = [s.shape[-1] for s in self.model.streams.values() if s.modality in VIDEO]
        self.size = max(sizes, default=64)

    def tasks(self, planners: Sequence[Planner], progress: bool) -> list[Task]:
        """Evaluation seeds whose expert succeeds within the limit."""
        found, number = [], 0
        streams = {segment.stream for planner in planners for _, segment in planner.goal}
        with Progress(progress, "goals from the expert", self.settings.episodes) as bar:
            while len(found) < self.settings.episodes:
                if number > 4 * self.settings.episodes + 10:
                    raise errors.expert_too_slow(self.world.spec.name, self.settings.limit)
                seed = episode_seed(Purpose.EVALUATION, self.settings.seed, number)
                number += 1
                task = self._task(seed, streams)
                if task is not None:
                    found.append(task)
                    bar.advance()
        return found

    def _task(self, seed: int, streams: set[str]) -> Task | None:
        observation = self.world.reset(seed)
        start, success, steps = self.world.save_state(), False, 0
        while not success:
            if steps == self.settings.limit:
                return None
            observation, success, _ = self.world.step(self.world.expert_action())
            steps += 1
        for _ in range(self.settings.settle):
            observation, _, _ = self.world.step(self.world.expert_action())
        goal = {name: self._sample(self.model.streams[name], observation) for name in streams}
        return Task(seed, start, goal, observation[keys.STATE][self.hand])

    def run(self, planner: Planner, tasks: Sequence[Task], progress: bool) -> dict[str, Any]:
        """All episodes beside each other until each has succeeded or reached the limit."""
        episodes = [_Episode(task, task.start) for task in tasks]
        generator = torch.Generator().manual_seed(self.settings.seed)
        with Progress(progress, f"planner {planner.name}", len(tasks)) as bar:
            while live := [one for one in episodes if not self._ended(one)]:
                found = self._search(planner, live, generator)
                for episode, actions in zip(live, found, strict=True):
                    self._act(planner, episode, actions)
                    bar.advance(int(self._ended(episode)))
        return self._result(planner, episodes)

    def _ended(self, episode: _Episode) -> bool:
        return episode.success or episode.steps >= self.settings.limit

    def _search(
        self, planner: Planner, live: list[_Episode], generator: torch.Generator
    ) -> Tensor:
        """Plans [n, T, A] for the episodes that go on."""
        names = _observed(self.module, planner)
        seen = []
        for episode in live:
            observation = self.world.restore_state(episode.state)
            seen.append({n: self._sample(self.model.streams[n], observation) for n in names})
        batch = {name: _stacked([one[name] for one in seen]) for name in names}
        goals = live[0].task.goal
        goal = {name: _stacked([one.task.goal[name] for one in live]) for name in goals}
        plans = [one.plan for one in live]
        warm = {} if planner.kind == "best_of" else {
            "warm": None if plans[0] is None else torch.stack(plans)
        }  # fmt: skip
        answer = self.module.search(planner.name, batch, goal, generator, **warm)
        return answer[self._action()]

    def _action(self) -> str:
        return next(s.name for s in self.model.streams.values() if s.modality == "action")

    def _act(self, planner: Planner, episode: _Episode, plan: Tensor) -> None:
        """Execute the head of a plan; its tail, held at its end, is where the next one begins."""
        future = self.model.streams[self._action()].segment("future")
        execute = min(planner.execute or len(future.offsets), len(plan))
        episode.plan = torch.cat([plan[execute:], plan[-1:].expand(execute, -1)])
        self.world.restore_state(episode.state)
        for action in plan[:execute].float().numpy():
            observation, success, _ = self.world.step(action)
            episode.steps += 1
            hand = observation[keys.STATE][self.hand]
            episode.distance = float(np.linalg.norm(hand - episode.task.hand))
            episode.nearest = min(episode.nearest, episode.distance)
            episode.success = episode.success or success
            if self._ended(episode):
                break
        episode.state = self.world.save_state()

    def _sample(self, stream: Stream, observation: dict[str, Any]) -> np.ndarray:
        """One sample with its window axis, or a text."""
        if stream.modality == "language":
            return encode_text(observation[keys.TASK], stream.shape[0])
        if stream.modality in VIDEO:
            camera = stream.key.removeprefix(keys.IMAGE_PREFIX)
            image = self.world.render(camera, self.size)
            return np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) / 255
        return np.asarray(observation[stream.key], np.float32)[None]

    def _result(self, planner: Planner, episodes: Sequence[_Episode]) -> dict[str, Any]:
        won = [one.success for one in episodes]
        values = planner.attributes
        distances = np.array([one.distance for one in episodes])
        return {
            "kind": planner.kind,
            "candidates": values["samples"] * values["rounds"],
            "success": sum(won) / len(won),
            "interval": list(wilson_interval(sum(won), len(won))),
            "succeeded": won,
            "steps": [one.steps for one in episodes],
            "distance": bootstrap_mean(distances).to_json(),
            "distances": distances.tolist(),
            "nearest": [one.nearest for one in episodes],
        }


def _declared(module: nn.Module, name: str) -> Planner:
    planners = module.plan.model.planners
    if name not in planners:
        known = ", ".join(planners) or "none"
        raise errors.unanswerable(name, "the spec declares no such planner", f"it has {known}")
    return planners[name]


def _observed(module: nn.Module, planner: Planner) -> list[str]:
    """Streams that the planner's queries read; only what is seen now can be shown to them."""
    model, given = module.plan.model, {}
    for name in (*planner.queries, *filter(None, [planner.prior])):
        for segment in model.queries[name].given:
            if segment.observed:
                given[segment.stream] = None
            if any(offset < 0 for offset in segment.offsets):
                raise errors.unanswerable(
                    planner.name, f"{segment.reference} looks back, and no history is kept",
                    "plan with queries that give only `now 1 frame` or `now 1 step`",
                )  # fmt: skip
    return list(given)


def _stacked(samples: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(samples))
