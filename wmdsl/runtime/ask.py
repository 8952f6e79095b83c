"""Any declared or canonical query on recorded data: arrays, and pictures of sought frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch

from wmdsl.plan.named import questions
from wmdsl.runtime import binding, errors
from wmdsl.runtime.checkpoint import save_tensors
from wmdsl.runtime.device import CPU, moved, noise_of
from wmdsl.runtime.filmstrip import picture
from wmdsl.runtime.load import load_run
from wmdsl.runtime.run import RunDirectory


def ask_run(
    path: Path, query: str, data: Path, out: Path, samples: int = 8, seed: int = 0,
    device: torch.device = CPU,
) -> list[Path]:  # fmt: skip
    """Ask a run `query` at random moments of a data set, the model on `device`; returns the files
    written.

    `answer.safetensors` holds the answer and, as `truth.<stream>`, what the data has there.  Raises
    SpecError where the spec forbids the answer.
    """
    module, batch = recorded(path, query, data, samples, seed)
    model = module.to(device).plan.model
    with torch.inference_mode():
        answer = moved(module.query(query, moved(batch, device), noise_of(module, seed)), CPU)
    out.mkdir(parents=True, exist_ok=True)
    truth = {f"truth.{name}": _sought(batch[name], model, name) for name in answer if name in batch}
    save_tensors(out / "answer.safetensors", {**answer, **truth})
    written = [out / "answer.safetensors"]
    seen = next((name for name in answer if name in binding.image_streams(model)), None)
    if seen:
        written.append(picture(out / f"{query}.png", model, seen, batch, answer[seen]))
    return written


def score_run(
    path: Path, query: str, data: Path, out: Path, samples: int = 8, seed: int = 0,
    device: torch.device = CPU,
) -> tuple[Path, float, float]:  # fmt: skip
    """How likely a run finds what the data has at random moments, as answers to `query`.

    Returns the file written (`log_density.safetensors`), the mean in nats and its standard error.
    Raises SpecError where the plan says that there is no log-density.
    """
    module, batch = recorded(path, query, data, samples, seed)
    noise = noise_of(module.to(device), seed)
    found = moved(module.log_density(query, moved(batch, device), generator=noise), CPU)
    out.mkdir(parents=True, exist_ok=True)
    save_tensors(out / "log_density.safetensors", found)
    each = found["log_density"]
    error = each.std() / samples**0.5 if samples > 1 else torch.nan
    return out / "log_density.safetensors", float(each.mean()), float(error)


def recorded(
    path: Path, query: str, data: Path, samples: int, seed: int
) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A run's module, and a batch of random moments of a data set."""
    from wmdsl.data.lerobot import DatasetInfo
    from wmdsl.data.windows import WindowedDataset

    if samples < 1:
        raise errors.out_of_range("samples", samples, "at least 1")
    module = load_run(path)
    if query not in questions(module.plan):
        raise errors.unanswerable(
            query, "there is no such query", f"it answers {', '.join(module.answers)}"
        )
    model = module.plan.model
    info = DatasetInfo.read(data)
    dataset = WindowedDataset(data, binding.windows(model, Fraction(info.fps)))
    chosen = torch.randint(len(dataset), (samples,), generator=torch.Generator().manual_seed(seed))
    batch = dataset.batch(chosen)
    if RunDirectory(path).read_json(RunDirectory(path).training)["settings"]["blind"]:
        batch |= {name: torch.zeros_like(batch[name]) for name in binding.image_streams(model)}
    return module, batch


def _sought(values: torch.Tensor, model: object, name: str) -> torch.Tensor:
    stream = model.streams[name]  # type: ignore[attr-defined]
    return values[:, stream.start("future") :] if stream.segment("future") else values
