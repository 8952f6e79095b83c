"""Training: one loop for every spec; a run killed at any moment resumes bitwise equal."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wmdsl.progress import Progress
from wmdsl.runtime import binding, errors
from wmdsl.runtime.average import Average
from wmdsl.runtime.checkpoint import (
    load_checkpoint,
    load_position,
    save_checkpoint,
    save_tensors,
)
from wmdsl.runtime.feed import Feed, Statistics, folders
from wmdsl.runtime.run import RunDirectory, write_json, write_text
from wmdsl.runtime.settings import TrainSettings
from wmdsl.runtime.stages import Phase, optimizer_of, phase_at, phases, weights_by_label
from wmdsl.weights import chosen_weights

Batch = dict[str, Tensor]


def train(
    module: nn.Module,
    data: str | Path | Mapping[str, str | Path],
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
    stop_after: int | None = None,
) -> Path:
    """Train a compiled module on a data set and leave a run directory.

    `data` is a folder, or folders by the names that the stages of the spec give their sources.
    `stop_after` ends this call early at that step with a checkpoint, as a kill would (the schedule
    still is that of `settings.steps`).  Raises RunError or DataError for what a user can mend; on
    Ctrl-C the state is saved first.
    """
    run = RunDirectory(Path(out))
    settings = settings or TrainSettings()
    if run.path.exists() and not run.path.is_dir():
        raise errors.no_folder(run.path)
    if run.training.exists() and not resume:
        raise errors.taken(run.path)
    _prepare_machine(settings)
    feed = Feed(module, folders(data), settings)
    spans = phases(module.plan.model, settings)
    gaps = feed.gaps(spans)
    for gap in gaps:
        print(f"warning[{errors.GAP}]: {gap}", file=sys.stderr, flush=True)
    statistics = feed.statistics(spans)
    module.load_statistics(statistics)
    trainer = Trainer(module, feed, run, settings)
    if resume and run.training.exists():
        trainer.resume()
    else:
        _describe(run, module, feed, settings, statistics, gaps)
    trainer.run_until(min(settings.steps, stop_after or settings.steps), progress)
    return run.path


class Trainer:
    """The state of one training and its loop."""

    def __init__(
        self, module: nn.Module, feed: Feed, run: RunDirectory, settings: TrainSettings
    ) -> None:
        self.device = next(module.parameters()).device
        self.module = _channels_last(module).train()
        self.feed, self.run, self.settings = feed, run, settings
        self.model = module.plan.model
        self.step = 0
        self.trainable = frozenset(value for value in module.parameters() if value.requires_grad)
        self.phases = phases(self.model, settings)
        self._enter(self.phases[0])
        self.average = Average(module, settings.ema)
        self.generator = torch.Generator(self.device).manual_seed(settings.seed)
        self.pixels = torch.Generator().manual_seed(settings.seed + 1)
        self.precision = _precision(settings, self.device)
        self.blind = binding.image_streams(self.model) if settings.blind else ()
        self.shuffled = binding.action_streams(self.model) if settings.shuffle_actions else ()
        self.seconds = 0.0

    def _enter(self, phase: Phase) -> None:
        """Begin a phase: its loader at the first sample, a fresh optimizer over what it trains."""
        self.phase = phase
        self.loader = self.feed.of(phase)
        self.optimizer = optimizer_of(self.module, phase, self.trainable, self.settings)

    def run_until(self, last: int, progress: bool) -> None:
        """Step to `last`; whatever ends the loop, the newest state is on disk."""
        from wmdsl.runtime.log import MetricsLog

        started = time.monotonic() - self.seconds
        with (
            MetricsLog(self.run, self.step) as log,
            Progress(
                progress, f"training {self.model.name}", self.settings.steps, self.step
            ) as bar,
        ):
            try:
                while self.step < last:
                    terms = self._step()
                    self.seconds = time.monotonic() - started
                    self._report(log, bar, terms)
                    if self.step % self.settings.checkpoint_every == 0 and self.step < last:
                        self.save()
            except KeyboardInterrupt:
                self.save()
                raise
        self.save()
        save_tensors(self.run.weights, self.average.weights(self.module))
        if self.step >= self.settings.steps:
            write_json(
                self.run.training,
                {
                    **self.run.read_json(self.run.training),
                    "finished": True,
                    "seconds": self.seconds,
                },
            )

    def _step(self) -> dict[str, float]:
        phase = phase_at(self.phases, self.step)
        if phase != self.phase:
            self._enter(phase)
        for group in self.optimizer.param_groups:
            group["lr"] = phase.rate(self.settings, self.step, group["highest"])
        batch = self._batch()
        stage = {"stage": phase.stage} if phase.stage else {}
        with self.precision():
            losses = self.module.loss(batch, generator=self.generator, **stage)
        if not losses["loss"].requires_grad:
            raise errors.nothing_trained(phase.stage)
        self._check_finite(losses, batch)
        shares = self._shares(losses) if self._due(self.settings.share_every) else {}
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip)
        if not math.isfinite(float(norm)):
            self._refuse("gradient", batch)
        self.optimizer.step()
        self.module.after_step()
        self.average.update(self.module, self.step)
        self.step += 1
        return {
            **{name: float(value.detach()) for name, value in losses.items()},
            **shares,
            **stage,
            "gradient_norm": float(norm),
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
        }

    def _batch(self) -> Batch:
        batch = self.loader.next_batch(self.pixels)
        for name in self.blind:
            batch[name] = torch.zeros_like(batch[name])
        if self.shuffled:
            self._shuffle(batch)
        return {name: value.to(self.device) for name, value in batch.items()}

    def _shuffle(self, batch: Batch) -> None:
        """Give every sample the actions of another one: same distribution, no consequence."""
        size = len(batch[self.shuffled[0]])
        order = torch.randperm(size, generator=self.pixels)
        for name in self.shuffled:
            for key in (name, f"{name}.valid", f"{name}.numbers"):
                if key in batch:
                    batch[key] = batch[key][order]

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _shares(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Norm of each weighted term's gradient over the sum of these norms."""
        weights = weights_by_label(self.model, self.phase.stage, losses)
        shared = [value for value in self.module.parameters() if value.requires_grad]
        norms = {}
        for name, weight in weights.items():
            if not losses[name].requires_grad:
                continue
            grads = torch.autograd.grad(
                losses[name] * weight, shared, retain_graph=True, allow_unused=True
            )
            reached = [grad.norm() for grad in grads if grad is not None]
            norms[name] = float(torch.stack(reached).norm()) if reached else 0.0
        total = sum(norms.values()) or 1.0
        return {f"gradient_share/{name}": norm / total for name, norm in norms.items()}

    def _check_finite(self, losses: dict[str, Tensor], batch: Batch) -> None:
        for name, value in losses.items():
            if not math.isfinite(float(value.detach())):
                self._refuse(name, batch)

    def _refuse(self, term: str, batch: Batch) -> None:
        path = self.run.path / f"not-finite-step-{self.step:06d}.safetensors"
        save_tensors(path, batch)
        raise errors.not_finite(self.step, term, path)

    def _report(self, log: Any, bar: Progress, terms: dict[str, float]) -> None:
        bar.advance(loss=terms["loss"])
        if self.step % self.settings.log_every == 0 or self.step == 1:
            log.write({"step": self.step, "seconds": round(self.seconds, 3), **terms})
        elif any(name.startswith("gradient_share") for name in terms):
            log.write(
                {
                    "step": self.step,
                    **{
                        name: value
                        for name, value in terms.items()
                        if name.startswith("gradient_share")
                    },
                }
            )

    def save(self) -> None:
        """Write a checkpoint of this very step."""
        random_states = {
            "generator": self.generator.get_state(),
            "pixels": self.pixels.get_state(),
            "torch": torch.get_rng_state(),
        }
        position = {
            "seconds": self.seconds,
            "stage": self.phase.stage,
            "sampler": self.loader.state_dict(),
        }
        save_checkpoint(
            self.run,
            self.step,
            self.module,
            self.average.state_dict(),
            self.optimizer,
            random_states,
            position,
        )

    def resume(self) -> None:
        """Go back to the newest whole checkpoint of the run; to step 0 where it has not come to
        one.  The settings must be those it was begun with, but for FREE ones."""
        described = self.run.read_json(self.run.training)
        if described["spec_sha256"] != self.model.sha256:
            raise errors.other_spec(self.run.path, described["spec_sha256"], self.model.sha256)
        begun = TrainSettings(**described["settings"])
        if changed := self.settings.changed_from(begun):
            raise errors.other_settings(self.run.path, changed)
        if self.model.stages and begun.steps != self.settings.steps:
            raise errors.other_steps(self.run.path, begun.steps, self.settings.steps)
        steps = self.run.checkpoint_steps()
        if steps and steps[-1] > self.settings.steps:
            wanted = f"at least {steps[-1]}, where the run stands"
            raise errors.out_of_range("steps", self.settings.steps, wanted)
        if steps:
            folder = self.run.checkpoints / f"step-{steps[-1]:06d}"
            try:
                self._restore(folder)
            except errors.RunError as fault:
                raise errors.damaged_checkpoint(folder, fault, bool(steps[:-1])) from None
        elif self.run.weights.exists():
            raise errors.no_checkpoint(self.run.path)
        else:
            print(f"{self.run.path} has no checkpoint yet: it begins at step 0", file=sys.stderr)
        going_on = {"settings": self.settings.to_json(), "finished": False}
        write_json(self.run.training, {**described, **going_on})

    def _restore(self, folder: Path) -> None:
        stage = load_position(folder)["stage"]
        self._enter(next(phase for phase in self.phases if phase.stage == stage))
        average, random_states, position = load_checkpoint(folder, self.module, self.optimizer)
        self.average.load_state_dict(average)
        self.generator.set_state(random_states["generator"])
        self.pixels.set_state(random_states["pixels"])
        torch.set_rng_state(random_states["torch"])
        self.loader.load_state_dict(position["sampler"])
        self.step, self.seconds = int(position["step"]), float(position["seconds"])


def _channels_last(module: nn.Module) -> nn.Module:
    """Two-dimensional convolutions in the layout that runs fastest; others have none such."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.to(memory_format=torch.channels_last)
    return module


def _recording(data: Path) -> dict[str, Any]:
    """How our own demonstrations were recorded; evaluation renders in the same way."""
    from wmdsl.data import lerobot

    path = data / lerobot.PROVENANCE_PATH
    return lerobot.read_json(path, "the provenance").get("request", {}) if path.is_file() else {}


def resumed_settings(run: RunDirectory, steps: int | None = None) -> TrainSettings:
    """The settings a run was started with; only the number of steps may be changed."""
    stored = TrainSettings(**run.read_json(run.training)["settings"])
    return replace(stored, steps=steps) if steps else stored


def _describe(
    run: RunDirectory,
    module: nn.Module,
    feed: Feed,
    settings: TrainSettings,
    statistics: Statistics,
    gaps: list[str],
) -> None:
    from wmdsl.plan.as_json import to_json

    model = module.plan.model
    write_text(run.spec, model.canonical)
    write_text(run.source, module.source)
    write_json(run.plan, to_json(module.plan))
    write_json(run.statistics, statistics)
    run.metrics.unlink(missing_ok=True)
    write_json(
        run.training,
        {
            "model": model.name,
            "title": model.title,
            "spec_sha256": model.sha256,
            "parameters": dict(model.parameters),
            "data": ", ".join(f"{name}={path}".lstrip("=") for name, path in feed.data.items()),
            "gaps": gaps,
            "unrecorded": [stream.name for stream in feed.unrecorded()],
            "recording": _recording(next(iter(feed.data.values()))),
            "weights": chosen_weights(module),
            "settings": settings.to_json(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "finished": False,
        },
    )


def _precision(settings: TrainSettings, device: torch.device) -> Callable[[], Any]:
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if settings.precision == "bf16" or (settings.precision == "auto" and has_bf16):
        return lambda: torch.autocast(device.type, torch.bfloat16)
    return nullcontext


def _prepare_machine(settings: TrainSettings) -> None:
    torch.manual_seed(settings.seed)
    if settings.threads:
        torch.set_num_threads(settings.threads)


def metrics(run: RunDirectory) -> Iterator[dict[str, float]]:
    """The logged lines of a run in order."""
    with open(run.metrics, encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)
