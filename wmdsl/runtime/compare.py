"""Several specs under one budget: train, evaluate, report; whatever is finished is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wmdsl.driver import front
from wmdsl.plan.advance import NoRollOut, roll_out
from wmdsl.runtime.jobs import Job, run_jobs
from wmdsl.runtime.run import RunDirectory
from wmdsl.runtime.settings import TrainSettings
from wmdsl.weights import named_weights
from wmdsl.weights.errors import not_chosen


@dataclass(frozen=True, slots=True)
class Faithful:
    """The faithfulness suite for every sighted run that can be rolled out.

    `situations` of each environment; `shuffled` also trains each spec's baseline on other samples'
    actions, with the first seed and the steps of the others.
    """

    situations: int = 24
    probe_episodes: int = 40
    probe_steps: int = 800
    shuffled: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """What every spec gets: the same steps, seeds, episodes.

    `blind_steps` train the blind control of each spec's first seed (0: none); `swaps` maps a task
    to the task whose instruction is given instead; `parameters` are given to every spec, `weights`
    (random, hub or a folder) to those that name pretrained parts.
    """

    settings: TrainSettings
    seeds: tuple[int, ...] = (0, 1)
    blind_steps: int = 0
    episodes: int = 50
    blind_tasks: tuple[str, ...] = ()
    swaps: Mapping[str, str] | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None
    faithful: Faithful | None = None


def spec_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files named, and all specs directly inside the folders named, in order of name."""
    found = []
    for path in map(Path, paths):
        found += sorted(path.glob("*.wm")) if path.is_dir() else [path]
    return found


def compare(
    specs: Sequence[Path],
    data: Path,
    environments: Sequence[str],
    out: Path,
    budget: Budget,
    *,
    workers: int = 2,
    progress: bool = True,
) -> list[Path]:
    """Train and evaluate every spec; returns the run directories, sighted before blind.

    Jobs run as processes, `workers` at a time; calling it again continues where it stopped.
    Raises WeightsError before the first job where a spec names weights and none are chosen.
    """
    jobs, runs = [], []
    for spec in specs:
        for seed in budget.seeds:
            run = out / "runs" / f"{spec.stem}-seed{seed}"
            jobs.append(_job(spec, run, data, environments, budget, seed, blind=False))
            runs.append(run)
        if budget.blind_steps:
            run = out / "runs" / f"{spec.stem}-blind"
            tasks = budget.blind_tasks or tuple(environments)
            jobs.append(_job(spec, run, data, tasks, budget, budget.seeds[0], blind=True))
            runs.append(run)
    rolled = [spec for spec in specs if budget.faithful and _rolls(spec, budget)]
    if budget.faithful and budget.faithful.shuffled:
        jobs += [_shuffled_job(spec, out, data, budget) for spec in rolled]
    run_jobs([job for job in jobs if job.commands], workers, progress)
    if budget.faithful:
        jobs = [
            _faithful_job(spec, out, environments, budget, seed)
            for spec in rolled
            for seed in budget.seeds
        ]
        run_jobs([job for job in jobs if job.commands], workers, progress)
    return runs


def _rolls(spec: Path, budget: Budget) -> bool:
    """Whether the plan has a roll-out of pictures under given actions."""
    try:
        roll_out(front(spec, budget.parameters))
    except NoRollOut:
        return False
    return True


def _shuffled_job(spec: Path, out: Path, data: Path, budget: Budget) -> Job:
    run = RunDirectory(_shuffled_run(spec, out))
    commands = ()
    if not _trained(run):
        trained = _train(spec, run, data, budget, budget.seeds[0], blind=False)
        commands = ((*trained, "--shuffle-actions"),)
    return Job(f"{spec.stem} shuffled", run.path.with_suffix(".log"), commands)


def _shuffled_run(spec: Path, out: Path) -> Path:
    return out / "runs" / f"{spec.stem}-shuffled"


def _faithful_job(
    spec: Path, out: Path, environments: Sequence[str], budget: Budget, seed: int
) -> Job:
    run, settings = RunDirectory(out / "runs" / f"{spec.stem}-seed{seed}"), budget.faithful
    words = ("faithful", str(run.path), "--env", ",".join(environments),
             "--situations", str(settings.situations), "--probe-steps", str(settings.probe_steps),
             "--probe-episodes", str(settings.probe_episodes))  # fmt: skip
    if settings.shuffled:
        words += ("--shuffled", str(_shuffled_run(spec, out)))
    commands = () if run.faithful.exists() else (words,)
    return Job(f"{spec.stem} seed {seed} faithful", run.path.with_suffix(".log"), commands)


def _trained(run: RunDirectory) -> bool:
    return run.training.exists() and run.read_json(run.training)["finished"]


def _job(
    spec: Path, path: Path, data: Path, environments: Sequence[str], budget: Budget, seed: int,
    blind: bool,
) -> Job:  # fmt: skip
    run = RunDirectory(path)
    commands = []
    if not _trained(run):
        commands.append(_train(spec, run, data, budget, seed, blind))
    if not run.evaluation.exists():
        swaps = {} if blind else budget.swaps or {}
        swapped = [word for a, b in swaps.items() for word in ("--swap", f"{a}={b}")]
        strips = () if blind else ("--strips",)
        commands.append(("eval", str(path), "--env", ",".join(environments), "--episodes",
                         str(budget.episodes), *swapped, *strips))  # fmt: skip
    title = f"{spec.stem} {'blind' if blind else f'seed {seed}'}"
    return Job(title, path.with_suffix(".log"), tuple(commands))


def _train(
    spec: Path, run: RunDirectory, data: Path, budget: Budget, seed: int, blind: bool
) -> tuple[str, ...]:
    settings = budget.settings
    steps = budget.blind_steps if blind else settings.steps
    given = [f"-P{name}={value}" for name, value in budget.parameters.items()]
    given += _weights(spec, budget)
    return (
        "train", str(spec), *given, "--data", str(data), "-o", str(run.path), "--steps", str(steps),
        "--seed", str(seed), "--batch-size", str(settings.batch_size),
        "--learning-rate", str(settings.learning_rate), "--ema", str(settings.ema),
        *(("--blind",) if blind else ()), *(("--resume",) if run.training.exists() else ()),
    )  # fmt: skip


def _weights(spec: Path, budget: Budget) -> tuple[str, ...]:
    """What `train` is told of pretrained parts; WeightsError where a spec names some unchosen."""
    named = named_weights(front(spec, budget.parameters).model)
    if named and budget.weights is None:
        raise not_chosen(named)
    return ("--weights", budget.weights) if named else ()
