"""Closed-loop evaluation of a run: success with its interval, and what a call costs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wmdsl.runtime import errors
from wmdsl.runtime.load import load_run
from wmdsl.runtime.observing import image_size
from wmdsl.runtime.policy import ModulePolicy
from wmdsl.runtime.run import RunDirectory, write_json

if TYPE_CHECKING:
    from torch import nn

LATENCY_CALLS = 20


def evaluate_run(
    path: str | Path,
    environments: Sequence[str],
    episodes: int,
    *,
    query: str = "policy",
    seed: int = 0,
    swaps: Mapping[str, str] | None = None,
    workers: int | None = None,
    videos: int = 2,
    strips: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Run a trained policy in closed loop and write `eval.json`, videos and film strips.

    A run that was trained blind is evaluated blind.  `swaps` maps a task to another whose
    instruction the policy is told instead, in a fifth of the episodes; success still is that of
    the first task.
    """
    from wmdsl.environments import registry
    from wmdsl.environments.base import SUPERSAMPLE
    from wmdsl.environments.rollout import evaluate

    run = RunDirectory(Path(path))
    module = load_run(run.path)
    training = run.read_json(run.training)
    blind = bool(training["settings"]["blind"])
    policy = ModulePolicy(module, query, seed=seed, blind=blind)
    for name in environments:
        _check_fit(module, policy, registry.spec(name))
    supersample = training["recording"].get("supersample", SUPERSAMPLE)
    common = {
        "seed": seed, "size": image_size(module.plan.model), "supersample": supersample,
        "workers": workers, "progress": progress,
    }  # fmt: skip
    result = evaluate(
        policy, environments, episodes,
        videos=videos, video_folder=run.path / "videos", **common,
    ).to_json()  # fmt: skip
    result["videos"] = [str(Path(video).relative_to(run.path)) for video in result["videos"]]
    if swaps:
        told = {task: registry.spec(other).instruction for task, other in swaps.items()}
        # A swapped episode mostly fails, and a failure costs all 500 steps: a fifth must do.
        few = max(1, episodes // 5)
        swapped = evaluate(policy, list(swaps), few, instructions=told, **common)
        result["swapped"] = swapped.to_json()["tasks"]
    if strips:
        result["strips"] = _film_strips(run, module, environments[0], supersample)
    report = {
        "query": query, "blind": blind, "seed": seed, "execute": policy.execute,
        "latency_ms": latency(module, query), **result,
    }  # fmt: skip
    write_json(run.evaluation, report)
    return report


def latency(module: nn.Module, query: str) -> dict[str, float]:
    """Median milliseconds of one call for one observation: the query, and `joint` if declared."""
    names = {"policy": query} | ({"joint": "joint"} if "joint" in module.plan.queries else {})
    return {label: _median_ms(module, name) for label, name in names.items()}


@torch.inference_mode()
def _median_ms(module: nn.Module, query: str) -> float:
    from wmdsl.runtime.sample import random_batch

    batch = random_batch(module.plan.model, 1, query)
    times = []
    for _ in range(LATENCY_CALLS):
        started = time.perf_counter()
        module.query(query, batch, generator=torch.Generator().manual_seed(0))
        times.append(1e3 * (time.perf_counter() - started))
    return sorted(times)[len(times) // 2]


def _check_fit(module: nn.Module, policy: ModulePolicy, spec: Any) -> None:
    """A policy must be made for the environment's action, rate and cameras."""
    stream = module.plan.model.streams[policy.action.stream]
    if stream.shape != (spec.action_dim,):
        raise errors.environment_misfit(
            f"{stream.name} has {stream.shape[0]} numbers, the environment takes "
            f"{spec.action_dim} ({', '.join(spec.action_names)})", spec.name,
            "train on demonstrations of this environment",
        )  # fmt: skip
    if stream.rate_hz != spec.control_hz:
        raise errors.environment_misfit(
            f"{stream.name} runs at {stream.rate_hz} Hz, the environment at {spec.control_hz} Hz",
            spec.name, f"write `at {spec.control_hz} Hz` in the stream and train again",
        )  # fmt: skip
    known = {f"observation.images.{camera}" for camera in spec.cameras}
    for key in policy.cameras:
        if key not in known:
            raise errors.environment_misfit(
                f"there is no camera {key.rsplit('.', 1)[-1]}", spec.name,
                f"the environment has {', '.join(spec.cameras)}",
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
