"""Environments in slots, stepped in this process or in workers beside it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from wmdsl.data import errors, keys
from wmdsl.data.video import write_preview
from wmdsl.environments import registry
from wmdsl.environments.base import Environment
from wmdsl.environments.workers import hidden_main, initialize_worker

_FILM_HZ = 20
_FILM_SIZE = 256


@dataclass(frozen=True, slots=True)
class StepperSettings:
    """What an observation holds: these cameras at this size (see `make` for `supersample`).

    `between` are the cameras to be rendered inside a chunk, by the number of actions before.
    """

    cameras: tuple[str, ...]
    size: int
    supersample: int
    between: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begin:
    """Start an episode in a slot; the instruction is given in place of the environment's own.

    With `film` an mp4 of the first camera is written there when the episode ends.
    """

    name: str
    seed: int
    instruction: str
    film: Path | None = None
    slot: int = -1

    def at(self, slot: int) -> Begin:
        """The same episode in a slot."""
        return replace(self, slot=slot)


@dataclass(frozen=True, slots=True)
class Act:
    """Apply actions [steps, A] in a slot, up to the first success or the last step."""

    slot: int
    actions: np.ndarray


@dataclass(frozen=True, slots=True)
class Reply:
    """Where a slot stands after a command; an ended episode has no observation."""

    slot: int
    ended: bool
    success: bool
    steps: int
    observation: dict[str, Any] | None


@dataclass(slots=True)
class _Slot:
    """A running episode."""

    begin: Begin
    environment: Environment
    steps: int
    film: list[np.ndarray]


class Stepper:
    """The slots of one process. Environments are kept and used again."""

    def __init__(self, settings: StepperSettings) -> None:
        self._settings = settings
        self._slots: dict[int, _Slot] = {}
        self._idle: dict[str, list[Environment]] = {}

    def run(self, commands: Sequence[Begin | Act]) -> list[Reply]:
        """Obey commands for distinct slots; replies come in the order of the commands."""
        return [
            self._begin(command) if isinstance(command, Begin) else self._act(command)
            for command in commands
        ]

    def _begin(self, begin: Begin) -> Reply:
        idle = self._idle.setdefault(begin.name, [])
        environment = idle.pop() if idle else registry.make(begin.name, self._settings.supersample)
        slot = _Slot(begin, environment, 0, [])
        self._slots[begin.slot] = slot
        observation = environment.reset(begin.seed)
        _film(slot)
        return Reply(begin.slot, False, False, 0, self._observed(slot, observation, {}))

    def _act(self, act: Act) -> Reply:
        slot = self._slots[act.slot]
        success = done = False
        observation: dict[str, Any] = {}
        between: dict[int, dict[str, Any]] = {}
        for number, action in enumerate(act.actions, 1):
            observation, success, done = slot.environment.step(action)
            slot.steps += 1
            _film(slot)
            if success or done:
                return self._end(slot, success)
            if number in self._settings.between:
                images = self._images(slot, self._settings.between[number])
                between[number] = {**observation, **images}
        shown = self._observed(slot, observation, between)
        return Reply(act.slot, False, False, slot.steps, shown)

    def _end(self, slot: _Slot, success: bool) -> Reply:
        if slot.begin.film is not None:
            hz = min(_FILM_HZ, slot.environment.spec.control_hz)
            write_preview(slot.begin.film, slot.film, hz)
        del self._slots[slot.begin.slot]
        self._idle[slot.begin.name].append(slot.environment)
        return Reply(slot.begin.slot, True, success, slot.steps, None)

    def _observed(
        self, slot: _Slot, observation: dict[str, Any], between: dict[int, dict[str, Any]]
    ) -> dict[str, Any]:
        images = self._images(slot, self._settings.cameras)
        place = {"slot": slot.begin.slot, "step": slot.steps, "between": between}
        return {**observation, **images, **place, keys.TASK: slot.begin.instruction}

    def _images(self, slot: _Slot, cameras: Sequence[str]) -> dict[str, np.ndarray]:
        return {
            keys.image_key(camera): slot.environment.render(camera, self._settings.size)
            for camera in cameras
        }


class WorkerSteppers:
    """Steppers in worker processes; slot s lives in worker s modulo their number."""

    def __init__(self, settings: StepperSettings, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, settings), daemon=True)
            with hidden_main():
                process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, commands: Sequence[Begin | Act]) -> list[Reply]:
        """As `Stepper.run`, in parallel. Raises what a worker raises, DataError if one dies."""
        shares: list[list[Begin | Act]] = [[] for _ in self._pipes]
        for command in commands:
            shares[command.slot % len(shares)].append(command)
        busy = [(pipe, share) for pipe, share in zip(self._pipes, shares, strict=True) if share]
        replies: dict[int, Reply] = {}
        try:
            for pipe, share in busy:
                pipe.send(share)
            for pipe, _ in busy:
                answer = pipe.recv()
                if isinstance(answer, Exception):
                    raise answer
                replies |= {reply.slot: reply for reply in answer}
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise errors.worker_died("closed-loop evaluation") from error
        return [replies[command.slot] for command in commands]

    def close(self) -> None:
        """End the workers."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()


@contextmanager
def steppers(settings: StepperSettings, workers: int) -> Iterator[Stepper | WorkerSteppers]:
    """Steppers in `workers` processes, or in this one for 0."""
    if workers == 0:
        yield Stepper(settings)
        return
    hosts = WorkerSteppers(settings, workers)
    try:
        yield hosts
    finally:
        hosts.close()


def _serve(pipe: Connection, settings: StepperSettings) -> None:
    initialize_worker()
    stepper = Stepper(settings)
    while True:
        try:
            commands = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(stepper.run(commands))
        except Exception as error:  # carried to the parent, which raises it
            pipe.send(error)


def _film(slot: _Slot) -> None:
    if slot.begin.film is None:
        return
    spec = slot.environment.spec
    if slot.steps % max(1, spec.control_hz // _FILM_HZ) == 0:
        slot.film.append(slot.environment.render(spec.cameras[0], _FILM_SIZE))
