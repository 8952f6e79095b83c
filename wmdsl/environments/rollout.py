"""Closed-loop evaluation: success of a policy over unseen seeds, with its uncertainty.

Several episodes run in lockstep, so that the policy is asked for all of them at once; worker
processes step and render them. A policy is told the truth about what it costs: images are
rendered only when it asks for an action, and only those it looks at.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wmdsl.data import errors, keys
from wmdsl.environments import registry
from wmdsl.environments.base import SUPERSAMPLE, EnvironmentSpec
from wmdsl.environments.intervals import wilson_interval
from wmdsl.environments.seeds import Purpose, episode_seed
from wmdsl.environments.stepping import (
    Act,
    Begin,
    Reply,
    Stepper,
    StepperSettings,
    WorkerSteppers,
    steppers,
)
from wmdsl.environments.workers import usable_cores
from wmdsl.progress import Progress

_SLOTS = 16


class Policy(Protocol):
    """What evaluation asks of a policy.

    `cameras` are the keys of the images it looks at (none if it is blind), `execute` the control
    steps that it acts before it is asked again.  `between` are the steps of a chunk at which it
    wants to be shown what happens, by the number of actions before them (1 .. execute - 1), with
    the keys that it looks at there.
    """

    @property
    def cameras(self) -> Sequence[str]: ...

    execute: int
    between: Mapping[int, Sequence[str]]

    def reset(self, count: int) -> None:
        """Forget everything; up to `count` episodes will run beside each other."""

    def act(self, observations: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Chunks of actions [n, steps >= execute, A], one for each observation.

        An observation holds state, images and instruction under the keys of `wmdsl.data.keys`,
        and three entries for policies with a memory: `slot` (0 .. count - 1, the same throughout
        an episode), `step` (control steps since its start) and `between`: state and images at the
        steps of the last chunk that the policy wants to be shown.
        """


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one episode ended: `steps` is the control step of the success, or of the end."""

    seed: int
    success: bool
    steps: int


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The outcomes of one task in the order of the seeds."""

    task: str
    instruction: str
    outcomes: tuple[Outcome, ...]

    @property
    def successes(self) -> int:
        return sum(outcome.success for outcome in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """The entry of `eval.json`; `interval` is Wilson's at 95 %."""
        steps = [outcome.steps for outcome in self.outcomes if outcome.success]
        episodes = len(self.outcomes)
        return {
            "task": self.task,
            "instruction": self.instruction,
            "success": self.successes / episodes,
            "interval": list(wilson_interval(self.successes, episodes)),
            "successes": self.successes,
            "episodes": episodes,
            "mean_steps": float(np.mean(steps)) if steps else None,
            "seeds": [outcome.seed for outcome in self.outcomes],
            "succeeded": [outcome.success for outcome in self.outcomes],
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results by task and what they cost: seconds of the whole and of the policy alone."""

    tasks: tuple[TaskResult, ...]
    seconds: float
    policy_seconds: float
    policy_calls: int
    policy_observations: int
    videos: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The content of `eval.json`; times are in ms per batched call and per observation."""
        return {
            "tasks": [result.to_json() for result in self.tasks],
            "seconds": self.seconds,
            "policy_call_ms": 1e3 * self.policy_seconds / self.policy_calls,
            "policy_observation_ms": 1e3 * self.policy_seconds / self.policy_observations,
            "policy_batch": self.policy_observations / self.policy_calls,
            "videos": list(self.videos),
        }


def evaluate(
    policy: Policy,
    environments: str | Sequence[str],
    episodes: int,
    *,
    seed: int = 0,
    size: int = 64,
    supersample: int = SUPERSAMPLE,
    instructions: Mapping[str, str] | None = None,
    slots: int = _SLOTS,
    workers: int | None = None,
    videos: int = 0,
    video_folder: Path | None = None,
    progress: bool = True,
) -> Evaluation:
    """Run `episodes` episodes of each environment on evaluation seeds.

    `instructions` replaces the text of environments by name. `videos` episodes a task are filmed
    into `video_folder`. The result depends on `slots` (batched arithmetic), not on `workers`; 0
    workers step in this process. Raises DataError if a worker dies, ValueError for actions of a
    wrong shape, UnknownEnvironment and EnvironmentUnavailable as `make` does.
    """
    started = time.perf_counter()
    specs = [registry.spec(name) for name in registry.names(environments)]
    texts = {spec.name: spec.instruction for spec in specs} | dict(instructions or {})
    begins = deque(_begins(specs, episodes, seed, texts, videos, video_folder))
    films = tuple(str(begin.film) for begin in begins if begin.film)
    slots = min(slots, len(begins))
    workers = min(usable_cores() if workers is None else workers, slots)
    cameras = _cameras(policy.cameras)
    between = {step: _cameras(looked) for step, looked in policy.between.items()}
    settings = StepperSettings(cameras, size, supersample, between)
    with ExitStack() as stack:
        hosts = stack.enter_context(steppers(settings, workers))
        title = f"closed loop, {len(specs)} task{'s' * (len(specs) > 1)}"
        bar = stack.enter_context(Progress(progress, title, len(begins)))
        run = _Lockstep(policy, hosts, begins, slots, bar)
        run.run()
    return Evaluation(
        tasks=tuple(_result(spec.name, texts[spec.name], run.outcomes) for spec in specs),
        seconds=time.perf_counter() - started,
        policy_seconds=run.policy_seconds,
        policy_calls=run.policy_calls,
        policy_observations=run.policy_observations,
        videos=films,
    )


def _cameras(looked: Sequence[str]) -> tuple[str, ...]:
    """Names of the cameras among the keys that are looked at."""
    images = [key for key in looked if key.startswith(keys.IMAGE_PREFIX)]
    return tuple(key.removeprefix(keys.IMAGE_PREFIX) for key in images)


@dataclass(slots=True)
class _Lockstep:
    """Episodes in slots; a slot whose episode ends takes the next one waiting."""

    policy: Policy
    hosts: Stepper | WorkerSteppers
    waiting: deque[Begin]
    slots: int
    bar: Progress
    running: dict[int, Begin] = field(default_factory=dict)
    observations: dict[int, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    policy_seconds: float = 0.0
    policy_calls: int = 0
    policy_observations: int = 0

    def run(self) -> None:
        """Run all waiting episodes to their ends."""
        self.policy.reset(self.slots)
        self._fill(range(self.slots))
        while self.running:
            slots = sorted(self.running)
            chunks = self._ask([self.observations[slot] for slot in slots])
            replies = self.hosts.run([Act(s, c) for s, c in zip(slots, chunks, strict=True)])
            ended = [reply.slot for reply in replies if self._take(reply)]
            self._fill(ended)

    def _fill(self, slots: Sequence[int]) -> None:
        begins = {}
        for slot in slots:
            if self.waiting:
                begins[slot] = self.waiting.popleft()
        self.running |= begins
        for reply in self.hosts.run([begin.at(slot) for slot, begin in begins.items()]):
            self._take(reply)

    def _take(self, reply: Reply) -> bool:
        """Keep what a slot reports; True if its episode has ended."""
        if not reply.ended:
            self.observations[reply.slot] = reply.observation
            return False
        begin = self.running.pop(reply.slot)
        outcome = Outcome(begin.seed, reply.success, reply.steps)
        self.outcomes.setdefault(begin.name, []).append(outcome)
        done = [outcome for found in self.outcomes.values() for outcome in found]
        self.bar.advance(success=sum(outcome.success for outcome in done) / len(done))
        return True

    def _ask(self, observations: list[dict[str, Any]]) -> np.ndarray:
        started = time.perf_counter()
        chunks = np.asarray(self.policy.act(observations))
        self.policy_seconds += time.perf_counter() - started
        self.policy_calls += 1
        self.policy_observations += len(observations)
        if (
            chunks.ndim != 3
            or len(chunks) != len(observations)
            or (chunks.shape[1] < self.policy.execute)
        ):
            raise ValueError(
                f"the policy gave actions of shape {chunks.shape} for {len(observations)} "
                f"observations and {self.policy.execute} steps"
            )
        return chunks[:, : self.policy.execute]


def _begins(
    specs: Sequence[EnvironmentSpec],
    episodes: int,
    seed: int,
    texts: Mapping[str, str],
    videos: int,
    folder: Path | None,
) -> list[Begin]:
    if episodes < 1:
        raise errors.empty(f"{episodes} episodes", specs[0].name, "ask for one or more")
    begins = []
    for spec in specs:
        for number in range(episodes):
            film = None
            if folder is not None and number < videos:
                film = folder / f"{spec.name.replace('/', '_')}-{number:02d}.mp4"
            chosen = episode_seed(Purpose.EVALUATION, seed, number)
            begins.append(Begin(spec.name, chosen, texts[spec.name], film))
    return begins


def _result(name: str, instruction: str, outcomes: Mapping[str, Sequence[Outcome]]) -> TaskResult:
    ordered = sorted(outcomes[name], key=lambda outcome: outcome.seed)
    return TaskResult(name, instruction, tuple(ordered))
