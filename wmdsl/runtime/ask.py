"""Any declared query on recorded data: arrays, and pictures where frames are sought."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch

from wmdsl.runtime import binding, errors
from wmdsl.runtime.checkpoint import save_tensors
from wmdsl.runtime.filmstrip import picture, visual_queries
from wmdsl.runtime.load import load_run
from wmdsl.runtime.run import RunDirectory


def ask_run(
    path: Path, query: str, data: Path, out: Path, samples: int = 8, seed: int = 0
) -> list[Path]:
    """Ask a run `query` at random moments of a data set; returns the files written.

    `answer.safetensors` holds the answer and, as `truth.<stream>`, what the data has there.
    """
    from wmdsl.data.lerobot import DatasetInfo
    from wmdsl.data.windows import WindowedDataset

    module = load_run(path)
    plan = module.plan.queries.get(query)
    if plan is None or plan.answerable == "no":
        raise errors.unanswerable(
            query, plan.because if plan else "the spec declares no such query",
            f"it declares {', '.join(module.plan.queries)}",
        )  # fmt: skip
    model = module.plan.model
    info = DatasetInfo.read(data)
    dataset = WindowedDataset(data, binding.windows(model, Fraction(info.fps)))
    chosen = torch.randint(len(dataset), (samples,), generator=torch.Generator().manual_seed(seed))
    batch = dataset.batch(chosen)
    if RunDirectory(path).read_json(RunDirectory(path).training)["settings"]["blind"]:
        batch |= {name: torch.zeros_like(batch[name]) for name in binding.image_streams(model)}
    with torch.inference_mode():
        answer = module.query(query, batch, generator=torch.Generator().manual_seed(seed))
    out.mkdir(parents=True, exist_ok=True)
    truth = {f"truth.{name}": _sought(batch[name], model, name) for name in answer}
    save_tensors(out / "answer.safetensors", {**answer, **truth})
    written = [out / "answer.safetensors"]
    seen = visual_queries(module).get(query)
    if seen:
        written.append(picture(out / f"{query}.png", model, seen, batch, answer[seen]))
    return written


def _sought(values: torch.Tensor, model: object, name: str) -> torch.Tensor:
    stream = model.streams[name]  # type: ignore[attr-defined]
    return values[:, stream.start("future") :] if stream.segment("future") else values
