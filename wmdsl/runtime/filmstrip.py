"""Film strips: what a model imagines beside what was filmed, on seeds it never trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from wmdsl.check.model import Model, Query, Stream
from wmdsl.data import keys
from wmdsl.data.text import encode_text
from wmdsl.environments.base import Environment
from wmdsl.runtime.binding import VIDEO, offsets
from wmdsl.runtime.device import device_of, moved, noise_of
from wmdsl.runtime.observing import frame

GAP = 4


@dataclass(frozen=True, slots=True)
class Episode:
    """One filmed episode: rows at the control rate, images by key uint8 [rows, H, W, 3]."""

    instruction: str
    columns: dict[str, np.ndarray]
    rows: int


def film(environment: Environment, cameras: Sequence[str], size: int, seed: int) -> Episode:
    """Let the expert act until its first success and film every control step."""
    observation = environment.reset(seed)
    rows: dict[str, list[np.ndarray]] = {}
    done = success = False
    while not (done or success):
        images = {
            key: environment.render(key.removeprefix(keys.IMAGE_PREFIX), size) for key in cameras
        }
        action = environment.expert_action()
        row = {keys.STATE: observation[keys.STATE], keys.ACTION: action, **images}
        for key, value in row.items():
            rows.setdefault(key, []).append(value)
        observation, success, done = environment.step(action)
    columns = {key: np.stack(values) for key, values in rows.items()}
    return Episode(environment.spec.instruction, columns, len(columns[keys.ACTION]))


def batch_at(
    model: Model, episode: Episode, rows: Sequence[int], rows_hz: int
) -> dict[str, Tensor]:
    """The windows of all streams around `rows` of an episode, in raw units, held at its ends."""
    return {
        stream.name: _window(stream, episode, rows, rows_hz)
        for stream in model.streams.values()
        if stream.keys
    }


def _window(stream: Stream, episode: Episode, rows: Sequence[int], rows_hz: int) -> Tensor:
    if stream.modality == "language":
        text = torch.from_numpy(encode_text(episode.instruction, stream.shape[0]))
        return text.expand(len(rows), -1)
    wanted = np.asarray(rows)[:, None] + np.asarray(offsets(stream, Fraction(rows_hz)))
    early = (wanted < 0) & (stream.modality == "action")
    wanted = np.clip(wanted, 0, episode.rows - 1)
    if stream.modality in VIDEO:
        frames = [_frame(stream, episode, row) for row in wanted.flat]
        return torch.from_numpy(np.stack(frames).reshape(*wanted.shape, *stream.sample))
    values = torch.from_numpy(episode.columns[stream.key][wanted]).float()
    values[torch.from_numpy(early)] = 0
    return values


def _frame(stream: Stream, episode: Episode, row: int) -> np.ndarray:
    return frame(stream, {key: episode.columns[key][row] for key in stream.keys})


def visual_queries(module: nn.Module) -> dict[str, str]:
    """Answerable declared queries that seek frames: query name to the stream sought."""
    model = module.plan.model
    return {
        query.name: stream
        for query in model.queries.values()
        if module.plan.queries[query.name].answerable != "no"
        for stream in [_sought_video(model, query)]
        if stream
    }


def _sought_video(model: Model, query: Query) -> str | None:
    names = [s.stream for s in query.all_sought if model.streams[s.stream].modality in VIDEO]
    return names[0] if names else None


@torch.inference_mode()
def strips(
    module: nn.Module, episode: Episode, rows_hz: int, out: Path, *, moments: int = 4, seed: int = 0
) -> list[Path]:
    """One picture per visual query: pairs of rows, filmed above imagined, at spread moments."""
    model = module.plan.model
    rows = np.linspace(0, episode.rows * 0.8, moments).astype(int).tolist()
    batch = batch_at(model, episode, rows, rows_hz)
    seen = moved(batch, device_of(module))
    written = []
    for query, name in visual_queries(module).items():
        imagined = module.query(query, seen, noise_of(module, seed))[name].cpu()
        written.append(picture(out / f"strip-{query}.png", model, name, batch, imagined))
    return written


def picture(
    path: Path, model: Model, name: str, batch: Mapping[str, Tensor], imagined: Tensor
) -> Path:
    """One PNG: for each sample the real frames of a stream above the imagined ones."""
    start = model.streams[name].start("future")
    now, real = batch[name][:, :start], batch[name][:, start:]
    rows = [torch.cat([now, real], 1), torch.cat([now, imagined.clamp(0, 1)], 1)]
    return _write(path, torch.stack(rows, 1))


def _write(path: Path, frames: Tensor) -> Path:
    """Write frames [moments, 2, F, C, H, W] in 0..1 as one PNG: two rows a moment."""
    from matplotlib import image

    moments, _, count, _, height, width = frames.shape
    pad = torch.nn.functional.pad(frames, (0, GAP, 0, GAP), value=1.0)
    grid = pad.permute(0, 1, 4, 2, 5, 3).reshape(
        moments * 2 * (height + GAP), count * (width + GAP), 3
    )
    zoomed = grid.repeat_interleave(2, 0).repeat_interleave(2, 1)
    image.imsave(path, (zoomed * 255).round().byte().numpy())
    return path
