"""Closed-loop evaluation of a run: success with its interval, and what a call costs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wmdsl.data import keys
from wmdsl.runtime import errors
from wmdsl.runtime.device import CPU, device_of, moved, noise_of
from wmdsl.runtime.graphs import asker
from wmdsl.runtime.load import load_run
from wmdsl.runtime.observing import image_size
from wmdsl.runtime.run import RunDirectory, write_json
from wmdsl.runtime.session import Session, SessionSettings

if TYPE_CHECKING:
    from torch import nn

    from wmdsl.environments.base import EnvironmentSpec

LATENCY_CALLS = 20


def evaluate_run(
    path: str | Path,
    environments: Sequence[str],
    episodes: int,
    *,
    query: str = "policy",
    seed: int = 0,
    session: SessionSettings | None = None,
    device: torch.device = CPU,
    swaps: Mapping[str, str] | None = None,
    workers: int | None = None,
    videos: int = 2,
    strips: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Run a trained policy in closed loop and write `eval.json`, videos and film strips.

    `session` says how it is asked again and again; its seed, bounds and what it hides are set here:
    a run that was trained blind is evaluated blind, and what no data set recorded stays zero.
    The model computes on `device`.
    `swaps` maps a task to another whose instruction the policy is told instead, in a fifth of the
    episodes; success still is that of the first task.
    """
    from wmdsl.environments import registry
    from wmdsl.environments.base import SUPERSAMPLE
    from wmdsl.environments.rollout import evaluate

    if episodes < 1:
        raise errors.out_of_range("episodes", episodes, "at least 1")
    told = {task: registry.spec(other).instruction for task, other in (swaps or {}).items()}
    if unknown := [task for task in told if task not in environments]:
        known = f"one of those evaluated: {', '.join(environments)}"
        raise errors.out_of_range("swap", unknown[0], known)
    run = RunDirectory(Path(path))
    module = load_run(run.path).to(device)
    training = run.read_json(run.training)
    recording, blind = training["recording"], bool(training["settings"]["blind"])
    robot = _one_robot([registry.spec(name) for name in environments])
    bounds = robot.action_low, robot.action_high
    settings = replace(
        session or SessionSettings(), bounds=bounds, seed=seed, blind=blind,
        blank=tuple(training.get("unrecorded", ())),
    )  # fmt: skip
    policy = Session(
        module, query, settings,
        control_hz=robot.control_hz, camera_hz=recording.get("camera_hz"),
    )  # fmt: skip
    _check_fit(module, policy, robot)
    supersample = recording.get("supersample", SUPERSAMPLE)
    common = {
        "seed": seed, "size": image_size(module.plan.model), "supersample": supersample,
        "workers": workers, "progress": progress,
    }  # fmt: skip
    result = evaluate(
        policy, environments, episodes,
        videos=videos, video_folder=run.path / "videos", **common,
    ).to_json()  # fmt: skip
    result["videos"] = [str(Path(video).relative_to(run.path)) for video in result["videos"]]
    if told:
        # A swapped episode mostly fails, and a failure costs all 500 steps: a fifth must do.
        few = max(1, episodes // 5)
        swapped = evaluate(policy, list(told), few, instructions=told, **common)
        result["swapped"] = swapped.to_json()["tasks"]
    if strips:
        result["strips"] = _film_strips(run, module, environments[0], supersample)
    report = {
        "query": query, "blind": blind, "seed": seed, "execute": policy.execute,
        "ensemble": policy.decay, "prefetch": settings.prefetch,
        "device": str(device), "graph": settings.graph,
        "latency_ms": latency(module, query, settings.graph), **result,
    }  # fmt: skip
    write_json(run.evaluation, report)
    return report


def latency(module: nn.Module, query: str, graph: bool = False) -> dict[str, float]:
    """Median milliseconds of one call for one observation, until the host has the answer: the
    query, and `joint` if declared."""
    names = {"policy": query} | ({"joint": "joint"} if "joint" in module.plan.queries else {})
    return {label: _median_ms(module, name, graph) for label, name in names.items()}


@torch.inference_mode()
def _median_ms(module: nn.Module, query: str, graph: bool) -> float:
    from wmdsl.runtime.sample import random_batch

    ask, device = asker(module, query, graph), device_of(module)
    batch = random_batch(module.plan.model, 1, query)
    times = []
    for _ in range(LATENCY_CALLS):
        started = time.perf_counter()
        moved(ask(moved(batch, device), noise_of(module, 0)), CPU)
        times.append(1e3 * (time.perf_counter() - started))
    return sorted(times)[len(times) // 2]


def _one_robot(specs: Sequence[EnvironmentSpec]) -> EnvironmentSpec:
    """The environments share a session: they must be controlled alike."""
    first = specs[0]
    for spec in specs[1:]:
        alike = (spec.control_hz, spec.action_names, spec.action_low, spec.action_high)
        if alike != (first.control_hz, first.action_names, first.action_low, first.action_high):
            raise errors.environment_misfit(
                f"it is controlled otherwise than {first.name}: other rates, names or bounds",
                spec.name, "evaluate them one after the other",
            )  # fmt: skip
    return first


def _check_fit(module: nn.Module, policy: Session, spec: EnvironmentSpec) -> None:
    """A policy must be made for the environment's action and cameras."""
    stream = module.plan.model.streams[policy.action.stream]
    if stream.shape != (spec.action_dim,):
        raise errors.environment_misfit(
            f"{stream.name} has {stream.shape[0]} numbers, the environment takes "
            f"{spec.action_dim} ({', '.join(spec.action_names)})", spec.name,
            "train on demonstrations of this environment",
        )  # fmt: skip
    shown = {keys.STATE, keys.TASK, *map(keys.image_key, spec.cameras)}
    for track in policy.tracks:
        lacking = [key for key in track.stream.keys if track.seen and key not in shown]
        if lacking:
            raise errors.environment_misfit(
                f"{track.stream.name} reads {lacking[0]}, which the environment does not show",
                spec.name, f"it shows {', '.join(sorted(shown))}",
            )  # fmt: skip


def _film_strips(run: RunDirectory, module: nn.Module, name: str, supersample: int) -> list[str]:
    from wmdsl.environments import registry
    from wmdsl.environments.seeds import Purpose, episode_seed
    from wmdsl.runtime.filmstrip import film, strips

    streams = module.plan.model.streams.values()
    cameras = list(dict.fromkeys(k for s in streams if s.modality == "video" for k in s.keys))
    environment = registry.make(name, supersample)
    try:
        seed = episode_seed(Purpose.EVALUATION, 0, 0)
        episode = film(environment, cameras, image_size(module.plan.model), seed)
    finally:
        environment.close()
    paths = strips(module, episode, environment.spec.control_hz, run.path)
    return [path.name for path in paths]
