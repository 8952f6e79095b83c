"""Batches without end from one dataset or a weighted mixture (robot data beside plain video)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wmdsl.data import errors, keys
from wmdsl.data.lerobot import DatasetInfo
from wmdsl.data.sampler import Sampler
from wmdsl.data.statistics import vector_statistics
from wmdsl.data.windows import Window, WindowedDataset


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset of a mixture: its folder, what each stream reads there, and its share.

    Offsets count rows of this very dataset, whose rate may differ from the others'.  With a
    `number` its samples carry it under `source`.
    """

    root: Path
    windows: tuple[Window, ...]
    weight: float = 1.0
    number: int | None = None


class Loader:
    """Draws batches. A stream that a source lacks is zero and invalid in that source's samples."""

    def __init__(
        self,
        sources: Sequence[Source],
        batch_size: int,
        *,
        seed: int = 0,
        shift_pixels: int = 0,
        cache: Path | None = None,
    ) -> None:
        """Load all sources; `shift_pixels` bounds the random shifts of every camera.

        Raises DataError where a stream is in no source, or has different shapes or lengths in two.
        """
        self.datasets = tuple(
            WindowedDataset(source.root, windows, cache=cache)
            for source, windows in zip(sources, _agreed_windows(sources), strict=True)
        )
        sizes = [len(dataset) for dataset in self.datasets]
        self.sampler = Sampler(sizes, batch_size, seed, [source.weight for source in sources])
        self._shift_pixels = shift_pixels
        self._numbers = [source.number for source in sources]

    def next_batch(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The next batch, as of `WindowedDataset.batch`; `generator` draws the shifts."""
        drawn = zip(self.datasets, next(self.sampler), self._numbers, strict=True)
        parts = []
        for dataset, indices, number in drawn:
            if len(indices):
                parts.append(dataset.batch(indices, self._shift_pixels, generator))
                if number is not None:
                    parts[-1]["source"] = torch.full((len(indices),), number)
        if len(parts) == 1:
            return parts[0]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def state_dict(self) -> dict[str, Any]:
        """The state of the sampler, plain integers; the generator's is its owner's to keep."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. Raises ValueError for another mixture."""
        self.sampler.load_state_dict(state)

    def statistics(self) -> dict[str, dict[str, list[float]]]:
        """Per vector stream min max mean std count q01 q10 q50 q90 q99, each a list [D].

        Computed over the rows of all sources that have the stream.
        """
        rows: dict[str, list[np.ndarray]] = {}
        for dataset in self.datasets:
            for stream, values in dataset.columns().items():
                rows.setdefault(stream, []).append(values)
        return {
            stream: {
                name: values.tolist()
                for name, values in vector_statistics(np.concatenate(parts)).items()
            }
            for stream, parts in rows.items()
        }


def _agreed_windows(sources: Sequence[Source]) -> list[tuple[Window, ...]]:
    """Windows by source, with one shape a stream, taken from the sources that have it."""
    shapes: dict[str, tuple[int, ...]] = {}
    for source in sources:
        info = DatasetInfo.read(source.root)
        for window in source.windows:
            shape = window.shape or _stored_shape(info, window)
            if shape is not None and shapes.setdefault(window.stream, shape) != shape:
                raise errors.wrong_shape(window.key, shape, shapes[window.stream], source.root)
    for source in sources:
        _check_counts(source, sources[0])
    return [
        tuple(
            replace(w, shape=shapes.get(w.stream), optional=w.optional or w.stream in shapes)
            for w in source.windows
        )
        for source in sources
    ]


def _stored_shape(info: DatasetInfo, window: Window) -> tuple[int, ...] | None:
    if window.key == keys.TASK:
        raise errors.empty(
            f"the length of stream {window.stream} is open in a mixture",
            info.root,
            "give the window of the text a shape",
        )
    if window.key not in info.features:
        return None
    feature = info.features[window.key]
    return feature.image_shape if feature.is_camera else feature.shape


def _check_counts(source: Source, first: Source) -> None:
    own = {window.stream: len(window.offsets) for window in source.windows}
    others = {window.stream: len(window.offsets) for window in first.windows}
    if own != others:
        raise errors.wrong_shape("a mixture's windows", own, others, source.root)
