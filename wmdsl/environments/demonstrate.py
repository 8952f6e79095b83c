"""Demonstrations from scripted experts, written as a LeRobotDataset v3.0.

Rows are at the control rate; a camera is rendered at its own, lower rate and held between.
Each attempt is determined by its seed alone, and of each task the first `episodes` successful
attempts are kept: the dataset does not depend on the number of workers, nor on how often the
command was killed and started again. Finished attempts wait in a hidden folder beside `out`.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from wmdsl.data import errors, keys, lerobot
from wmdsl.data.lerobot import Feature
from wmdsl.data.writer import DatasetWriter
from wmdsl.environments import registry
from wmdsl.environments.base import SUPERSAMPLE, Environment, EnvironmentSpec
from wmdsl.environments.counterfactual import SPAN_SECONDS
from wmdsl.environments.seeds import Purpose, episode_seed
from wmdsl.environments.workers import hidden_main, initialize_worker, usable_cores
from wmdsl.progress import Progress

_FAILURES_PER_EPISODE = 3
_RECORDED_PACKAGES = ("wmdsl", "metaworld", "mujoco", "hf-libero")


@dataclass(frozen=True, slots=True)
class Recording:
    """How an attempt is recorded; with an environment and a seed this fixes every byte.

    `tail` rows follow the first success, so that chunks which end in it are whole and the policy
    sees the expert come to rest: without, a puck carried past its goal was never brought back.
    `explore` is the share of spans of 0.2 s in which a random action is held in place of the
    expert's.
    """

    seed: int
    cameras: tuple[str, ...]
    camera_hz: int
    size: int
    supersample: int
    tail: int
    explore: float = 0.0

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class DemonstrationSummary:
    """What `demos` made: counts by environment, rows in all, wall seconds (0 if it was there)."""

    root: Path
    episodes: dict[str, int]
    failures: dict[str, int]
    rows: int
    seconds: float


def demos(
    environments: str | Sequence[str],
    episodes: int | Mapping[str, int],
    out: str | Path,
    *,
    seed: int = 0,
    cameras: Sequence[str] = ("corner", "wrist"),
    camera_hz: int = 20,
    size: int = 64,
    supersample: int = SUPERSAMPLE,
    tail: int = 32,
    explore: float = 0.0,
    workers: int | None = None,
    progress: bool = True,
) -> DemonstrationSummary:
    """Record `episodes` successful expert episodes of each environment into folder `out`.

    `episodes` may differ by environment name. An episode ends `tail` rows after its first success.
    With `explore` > 0 the expert is interrupted (see Recording) and failed episodes are kept as
    well: data that tells what other actions would have done, for world models.
    Running it again with the same arguments returns what is there; after a kill it goes on
    where it was. Raises DataError for rates that do not divide, an unknown camera, a folder
    that holds something else, a full disk or a failing expert; UnknownEnvironment and
    EnvironmentUnavailable as `make` does.
    """
    started = time.perf_counter()
    out = Path(out)
    recording = Recording(seed, tuple(cameras), camera_hz, size, supersample, tail, explore)
    specs = [registry.spec(name) for name in registry.names(environments)]
    wanted = {s.name: _count(episodes, s.name) for s in specs}
    _check_request(specs, wanted, recording)
    request = {"episodes": wanted, **asdict(recording)}
    if out.exists():
        return _existing(out, json.loads(json.dumps(request)))
    staging = out.parent / f".{out.name}.demos-{recording.digest}"
    workers = workers or min(usable_cores(), sum(wanted.values()))
    results = _record_all(wanted, recording, staging, workers, progress)
    _write_dataset(specs, recording, staging, results, out, request)
    shutil.rmtree(staging)
    return _summary(out, time.perf_counter() - started)


def record_attempt(
    environment: Environment, seed: int, recording: Recording
) -> dict[str, np.ndarray] | None:
    """One expert episode up to its first success and the tail, or None if the expert fails.

    An exploring episode is kept whole even if it fails.

    Arrays by feature: state and action float32 [N, D], cameras uint8 [M, H, W, 3] (the fresh
    frames). Row n holds what is seen before action n.
    """
    stride = environment.spec.control_hz // recording.camera_hz
    rows: dict[str, list[np.ndarray]] = {keys.STATE: [], keys.ACTION: []}
    rows |= {keys.image_key(camera): [] for camera in recording.cameras}
    observation = environment.reset(seed)
    interruptions = _Interruptions(environment.spec, recording.explore, seed)
    done, left = False, None
    while not done and left != 0:
        if len(rows[keys.ACTION]) % stride == 0:
            for camera in recording.cameras:
                image = environment.render(camera, recording.size)
                rows[keys.image_key(camera)].append(image)
        action = interruptions.held(len(rows[keys.ACTION]))
        if action is None:
            action = environment.expert_action()
        rows[keys.STATE].append(observation[keys.STATE])
        rows[keys.ACTION].append(action)
        observation, success, done = environment.step(action)
        if left is not None:
            left -= 1
        elif success:
            left = recording.tail
    if left is None and not recording.explore:
        return None
    return {key: np.stack(values) for key, values in rows.items()}


class _Interruptions:
    """Random actions held for whole spans of an episode; its seed fixes all of them."""

    def __init__(self, spec: EnvironmentSpec, share: float, seed: int) -> None:
        self._low, self._high = np.float32(spec.action_low), np.float32(spec.action_high)
        self._share = share
        self._length = max(1, round(spec.control_hz * SPAN_SECONDS))
        self._generator = np.random.default_rng([seed, 1])
        self._action: np.ndarray | None = None

    def held(self, step: int) -> np.ndarray | None:
        """The action held at a control step, or None where the expert acts."""
        if self._share and step % self._length == 0:
            drawn = self._generator.uniform(self._low, self._high).astype(np.float32)
            self._action = drawn if self._generator.random() < self._share else None
        return self._action


def _count(episodes: int | Mapping[str, int], name: str) -> int:
    return episodes if isinstance(episodes, int) else episodes.get(name, 0)


def _check_request(
    specs: list[EnvironmentSpec], wanted: Mapping[str, int], recording: Recording
) -> None:
    first = specs[0]
    if not 0 <= recording.explore <= 1:
        raise errors.empty(
            f"a share of {recording.explore} explored", first.name, "take a share in 0..1"
        )
    for name, episodes in wanted.items():
        if episodes < 1:
            raise errors.empty(f"{episodes} episodes", name, "ask for one or more")
    for spec in specs:
        same = (spec.control_hz, spec.state_names, spec.action_names)
        if same != (first.control_hz, first.state_names, first.action_names):
            raise errors.wrong_rate(
                f"{spec.name} and {first.name} differ in control rate, state or action",
                spec.name,
                "write them into separate datasets",
            )
        for camera in recording.cameras:
            if camera not in spec.cameras:
                raise errors.unknown_feature("camera", camera, spec.cameras, spec.name)
    if recording.camera_hz < 1 or first.control_hz % recording.camera_hz:
        raise errors.wrong_rate(
            f"a camera at {recording.camera_hz} Hz does not divide the control rate of "
            f"{first.control_hz} Hz",
            first.name,
            f"take {first.control_hz} Hz divided by a whole number",
        )


def _existing(out: Path, request: dict[str, Any]) -> DemonstrationSummary:
    path = out / lerobot.PROVENANCE_PATH
    stored = lerobot.read_json(path, "the provenance").get("request") if path.is_file() else {}
    if {"explore": 0.0, **stored} != request:
        raise errors.occupied(out, "choose another folder, or delete this one to record again")
    return _summary(out, 0.0)


def _summary(out: Path, seconds: float) -> DemonstrationSummary:
    provenance = lerobot.read_json(out / lerobot.PROVENANCE_PATH, "the provenance")
    names = provenance["request"]["episodes"]
    recorded = [episode["environment"] for episode in provenance["episodes"]]
    return DemonstrationSummary(
        root=out,
        episodes={name: recorded.count(name) for name in names},
        failures=provenance["failures"],
        rows=lerobot.DatasetInfo.read(out).total_frames,
        seconds=seconds,
    )


def _record_all(
    wanted: Mapping[str, int], recording: Recording, staging: Path, workers: int, progress: bool
) -> dict[str, list[bool]]:
    """The success of each attempt by environment, until as many as wanted have succeeded."""
    results: dict[str, list[bool]] = {name: [] for name in wanted}
    record = partial(_attempt, recording=recording, staging=staging)
    label = f"demonstrations of {len(wanted)} task{'s' * (len(wanted) > 1)}"
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=initialize_worker
    )
    try:
        staging.mkdir(parents=True, exist_ok=True)
        with Progress(progress, label, sum(wanted.values())) as bar:
            while jobs := _attempts_needed(wanted, results):
                with hidden_main():
                    outcomes = pool.map(record, jobs)
                for (name, _), success in zip(jobs, outcomes, strict=True):
                    results[name].append(success)
                    bar.advance(int(success))
    except BrokenProcessPool as error:
        raise errors.worker_died(", ".join(wanted)) from error
    except OSError as error:
        raise errors.not_writable(staging, error) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return results


def _attempts_needed(
    wanted: Mapping[str, int], results: Mapping[str, list[bool]]
) -> list[tuple[str, int]]:
    """(environment, attempt) for every success that is still missing."""
    jobs = []
    for name, successes in results.items():
        failures = successes.count(False)
        if failures > _FAILURES_PER_EPISODE * wanted[name] + 10:
            raise errors.expert_failing(name, failures, len(successes))
        missing = wanted[name] - successes.count(True)
        jobs += [(name, len(successes) + number) for number in range(missing)]
    return jobs


def _attempt(job: tuple[str, int], recording: Recording, staging: Path) -> bool:
    """In a worker: record one attempt into the staging folder, unless it lies there already."""
    name, attempt = job
    kept = _attempt_file(staging, name, attempt)
    failed = kept.with_suffix(".failed")
    if kept.exists() or failed.exists():
        return kept.exists()
    seed = episode_seed(Purpose.DEMONSTRATION, recording.seed, attempt)
    arrays = record_attempt(_environment(name, recording.supersample), seed, recording)
    kept.parent.mkdir(exist_ok=True)
    if arrays is None:
        failed.touch()
        return False
    unfinished = kept.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(unfinished, kept)
    return True


@cache
def _environment(name: str, supersample: int) -> Environment:
    return registry.make(name, supersample)


def _write_dataset(
    specs: list[EnvironmentSpec],
    recording: Recording,
    staging: Path,
    results: dict[str, list[bool]],
    out: Path,
    request: dict[str, Any],
) -> None:
    suite = specs[0].name.split("/")[0]
    cameras = [keys.image_key(camera) for camera in recording.cameras]
    recorded = []
    with DatasetWriter(out, specs[0].control_hz, _features(specs[0], recording), suite) as writer:
        for spec in specs:
            for attempt in np.flatnonzero(results[spec.name]).tolist():
                with np.load(_attempt_file(staging, spec.name, attempt)) as arrays:
                    vectors = {key: arrays[key] for key in arrays if key not in cameras}
                    images = {key: arrays[key] for key in cameras}
                writer.add_episode(vectors, images, spec.instruction)
                seed = episode_seed(Purpose.DEMONSTRATION, recording.seed, attempt)
                recorded.append({"environment": spec.name, "attempt": attempt, "seed": seed})
        writer.finish(
            {
                "format_version": 1,
                "request": request,
                "versions": _versions(),
                "failures": {name: found.count(False) for name, found in results.items()},
                "episodes": recorded,
            }
        )


def _features(spec: EnvironmentSpec, recording: Recording) -> list[Feature]:
    control_hz = float(spec.control_hz)
    shape = (recording.size, recording.size, 3)
    axes = ("height", "width", "channels")
    state, action = spec.state_names, spec.action_names
    return [
        Feature(keys.STATE, "float32", (len(state),), state, control_hz),
        Feature(keys.ACTION, "float32", (len(action),), action, control_hz),
        *(
            Feature(keys.image_key(camera), "video", shape, axes, float(recording.camera_hz))
            for camera in recording.cameras
        ),
    ]


def _attempt_file(staging: Path, name: str, attempt: int) -> Path:
    return staging / name.replace("/", "_") / f"{attempt:06d}.npz"


def _versions() -> dict[str, str]:
    found = {}
    for package in _RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
