"""Closed loops of declared planners: the goal is where the expert's own episode ended.

Every planner gets the same episodes, goals and noise. One simulator serves all episodes, because
its states are restored exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wmdsl.check.model import Model, Planner
from wmdsl.data import keys
from wmdsl.environments import registry
from wmdsl.environments.base import SUPERSAMPLE, Environment
from wmdsl.environments.intervals import wilson_interval
from wmdsl.environments.seeds import Purpose, episode_seed
from wmdsl.progress import Progress
from wmdsl.runtime import errors
from wmdsl.runtime.device import CPU, device_of, moved, noise_of
from wmdsl.runtime.faithful.probe import hand_places
from wmdsl.runtime.faithful.statistics import bootstrap_mean
from wmdsl.runtime.history import History, Track, looked_at, looks_between, sample
from wmdsl.runtime.load import load_run
from wmdsl.runtime.observing import image_size
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


@dataclass(frozen=True, slots=True)
class _Looks:
    """What a planner is shown: columns `now`, before each search, and `between` two searches, by
    the number of the `execute` control steps done."""

    tracks: tuple[Track, ...]
    now: tuple[str, ...]
    between: Mapping[int, tuple[str, ...]]
    execute: int


@dataclass(slots=True)
class _Episode:
    """Where an episode stands under one planner."""

    task: Task
    state: Any
    history: History
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
    device: torch.device = CPU,
    progress: bool = True,
) -> dict[str, Any]:
    """Let declared planners act in closed loop, the model on `device`; writes `planner.json` in
    the run.

    The goal of an episode is the expert's last observation in the same episode, which the planner
    is shown as a picture or a state, as its spec declares: the goal-conditioned protocol. Raises
    RunError for planners that the spec does not declare, or that cannot act here.
    """
    settings = settings or PlanningSettings()
    run = RunDirectory(Path(path))
    module = load_run(run.path).to(device)
    declared = [_declared(module, name) for name in planners]
    recording = run.read_json(run.training)["recording"]
    world = registry.make(environment, recording.get("supersample", SUPERSAMPLE))
    try:
        loop = _Loop(module, world, settings, recording.get("camera_hz"))
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

    def __init__(
        self,
        module: nn.Module,
        world: Environment,
        settings: PlanningSettings,
        camera_hz: Fraction | int | None = None,
    ) -> None:
        self.module, self.world, self.settings = module, world, settings
        self.model: Model = module.plan.model
        self.hand = hand_places(world)
        self.size = image_size(self.model)
        self.camera_hz = None if camera_hz is None else Fraction(camera_hz)

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
        goal = {}
        for stream in (self.model.streams[name] for name in streams):
            goal[stream.name] = sample(stream, self._shown(observation, stream.keys))[None]
        return Task(seed, start, goal, observation[keys.STATE][self.hand])

    def run(self, planner: Planner, tasks: Sequence[Task], progress: bool) -> dict[str, Any]:
        """All episodes beside each other until each has succeeded or reached the limit."""
        looks = self._looks(planner)
        episodes = [_Episode(task, task.start, History(looks.tracks)) for task in tasks]
        generator = noise_of(self.module, self.settings.seed)
        with Progress(progress, f"planner {planner.name}", len(tasks)) as bar:
            while live := [one for one in episodes if not self._ended(one)]:
                found = self._search(planner, looks, live, generator)
                for episode, actions in zip(live, found, strict=True):
                    self._act(looks, episode, actions)
                    bar.advance(int(self._ended(episode)))
        return self._result(planner, episodes)

    def _ended(self, episode: _Episode) -> bool:
        return episode.success or episode.steps >= self.settings.limit

    def _search(
        self, planner: Planner, looks: _Looks, live: list[_Episode], generator: torch.Generator
    ) -> Tensor:
        """Plans [n, T, A] for the episodes that go on."""
        windows = []
        for episode in live:
            self._see(episode, self.world.restore_state(episode.state), looks.now)
            windows.append(episode.history.windows(episode.steps))
        batch = {name: _stacked([one[name] for one in windows]) for name in windows[0]}
        goals = live[0].task.goal
        goal = {name: _stacked([one.task.goal[name] for one in live]) for name in goals}
        plans, device = [one.plan for one in live], device_of(self.module)
        warm = {} if planner.kind == "best_of" else {
            "warm": None if plans[0] is None else torch.stack(plans).to(device)
        }  # fmt: skip
        answer = self.module.search(
            planner.name, moved(batch, device), moved(goal, device), generator, **warm
        )
        return answer[self._action()].cpu()

    def _action(self) -> str:
        return next(s.name for s in self.model.streams.values() if s.modality == "action")

    def _looks(self, planner: Planner) -> _Looks:
        """What the planner's queries read of the past and of now."""
        names = (*planner.queries, *filter(None, [planner.prior]))
        segments = [segment for name in names for segment in self.model.queries[name].given]
        action = self.model.streams[self._action()]
        tracks = looked_at(
            self.model, planner.name, [one for one in segments if one.observed], action,
            Fraction(self.world.spec.control_hz), self.camera_hz,
        )  # fmt: skip
        length = len(action.segment("future").offsets)
        execute = min(planner.execute or length, length * planner.attributes.get("chunks", 1))
        now = [key for track in tracks if track.seen for key in track.stream.keys]
        return _Looks(tracks, tuple(dict.fromkeys(now)), looks_between(tracks, execute), execute)

    def _act(self, looks: _Looks, episode: _Episode, plan: Tensor) -> None:
        """Execute the head of a plan; its tail, held at its end, is where the next one begins."""
        execute = looks.execute
        episode.plan = torch.cat([plan[execute:], plan[-1:].expand(execute, -1)])
        self.world.restore_state(episode.state)
        begun, done = episode.steps, plan[:execute].float().numpy()
        for number, action in enumerate(done, 1):
            observation, success, _ = self.world.step(action)
            episode.steps += 1
            hand = observation[keys.STATE][self.hand]
            episode.distance = float(np.linalg.norm(hand - episode.task.hand))
            episode.nearest = min(episode.nearest, episode.distance)
            episode.success = episode.success or success
            if self._ended(episode):
                break
            if number in looks.between:
                self._see(episode, observation, looks.between[number])
        episode.history.act(begun, done)
        episode.state = self.world.save_state()

    def _see(
        self, episode: _Episode, observation: Mapping[str, Any], columns: Collection[str]
    ) -> None:
        episode.history.see(episode.steps, self._shown(observation, columns))

    def _shown(
        self, observation: Mapping[str, Any], columns: Collection[str]
    ) -> dict[str, np.ndarray]:
        """The columns as they are now; pictures are rendered."""
        return {
            name: self.world.render(name.removeprefix(keys.IMAGE_PREFIX), self.size)
            if name.startswith(keys.IMAGE_PREFIX)
            else observation[name]
            for name in columns
        }

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


def _stacked(samples: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(samples))
