"""Situations as batches: which rows are filmed, and the windows of all streams at a row.

Shape suffixes: B tracks (N situations x K sequences), C chunks, T control steps of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from wmdsl.check.model import Model, Stream
from wmdsl.data import keys
from wmdsl.data.text import encode_text
from wmdsl.environments.base import EnvironmentSpec
from wmdsl.environments.counterfactual import Filming, Situation, row_union
from wmdsl.plan.advance import Advance
from wmdsl.runtime import errors
from wmdsl.runtime.binding import VIDEO, offsets


@dataclass(frozen=True, slots=True)
class Course:
    """A roll-out in time: `chunks` chunks of `steps` rows at `rows_hz`."""

    chunks: int
    steps: int
    rows_hz: int

    @property
    def rows(self) -> int:
        return self.chunks * self.steps

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Rows at which chunks begin."""
        return tuple(range(0, self.rows, self.steps))

    @property
    def horizons(self) -> np.ndarray:
        """Seconds at which chunks end [C]."""
        return np.arange(1, self.chunks + 1) * self.steps / self.rows_hz


def course(model: Model, advance: Advance, spec: EnvironmentSpec, steps: int) -> Course:
    """At least `steps` control steps in whole chunks; the model must fit the environment."""
    stream = model.streams[advance.action]
    if stream.rate_hz != spec.control_hz or stream.shape != (spec.action_dim,):
        raise errors.environment_misfit(
            f"{stream.name} has {stream.shape[0]} numbers at {stream.rate_hz} Hz, the environment "
            f"takes {spec.action_dim} at {spec.control_hz} Hz", spec.name,
            "train on demonstrations of this environment",
        )  # fmt: skip
    return Course(-(-steps // advance.steps), advance.steps, spec.control_hz)


def filming(model: Model, spec: EnvironmentSpec, course: Course) -> Filming:
    """Every camera of the model, at the rows that some window reads, and how far any looks back."""
    rows: dict[str, set[int]] = {}
    sizes = set()
    for stream in model.streams.values():
        if stream.modality not in VIDEO or not stream.key:
            continue
        camera = stream.key.removeprefix(keys.IMAGE_PREFIX)
        if camera not in spec.cameras:
            raise errors.environment_misfit(
                f"there is no camera {camera}", spec.name,
                f"the environment has {', '.join(spec.cameras)}",
            )  # fmt: skip
        sizes.add(stream.shape[1:])
        wanted = row_union(_rows(stream, course), (*course.boundaries, course.rows))
        rows.setdefault(camera, set()).update(row for row in wanted if row <= course.rows)
    if len(sizes) != 1 or len(set(next(iter(sizes)))) != 1:
        raise errors.environment_misfit(
            f"frames of {', '.join('x'.join(map(str, size)) for size in sorted(sizes))} pixels",
            spec.name, "the suite films one square size for all cameras",
        )  # fmt: skip
    read = [row for s in model.streams.values() if s.key for row in _rows(s, course)]
    filmed = {name: tuple(sorted(found)) for name, found in rows.items()}
    return Filming(filmed, sizes.pop()[0], history=-min(read))


def _rows(stream: Stream, course: Course) -> tuple[int, ...]:
    return offsets(stream, Fraction(course.rows_hz))


def windows(
    model: Model, situations: Sequence[Situation], course: Course, row: int
) -> dict[str, Tensor]:
    """The true windows of all streams with data at `row` of every track, in raw units [B, ...]."""
    return {
        stream.name: torch.stack(
            [
                torch.from_numpy(_window(stream, place, track, course, row))
                for place in situations
                for track in place.tracks
            ]
        )
        for stream in model.streams.values()
        if stream.key
    }


def _window(stream: Stream, place: Situation, track: object, course: Course, row: int):  # type: ignore[no-untyped-def]
    if stream.modality == "language":
        return encode_text(place.instruction, stream.shape[0])
    rows = [row + offset for offset in _rows(stream, course)]
    if stream.modality in VIDEO:
        camera = stream.key.removeprefix(keys.IMAGE_PREFIX)
        images = np.stack([track.images[camera, min(at, course.rows)] for at in rows])
        return images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    if stream.key == keys.ACTION:
        return np.stack([track.action(at) for at in rows])
    return np.stack([track.state(at) for at in rows])
