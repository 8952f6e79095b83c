"""Several datasets as one, each with its share of every batch (robot data beside plain video)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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

    Offsets count rows of this very dataset, whose rate may differ from the others'.
    """

    root: Path
    windows: tuple[Window, ...]
    weight: float = 1.0


class Mixture:
    """Looks like one WindowedDataset. A stream that a source lacks is zero and invalid there."""

    def __init__(self, sources: Sequence[Source], *, cache: Path | None = None) -> None:
        """Load all sources. Raises DataError where a stream is in none of them, or has different
        shapes or lengths in two."""
        self.weights = tuple(source.weight for source in sources)
        self.datasets = tuple(
            WindowedDataset(source.root, windows, cache=cache)
            for source, windows in zip(sources, _agreed_windows(sources), strict=True)
        )
        self._offsets = np.cumsum([0, *(len(dataset) for dataset in self.datasets)])

    def __len__(self) -> int:
        """The number of anchors of all sources."""
        return int(self._offsets[-1])

    def sampler(self, batch_size: int, seed: int) -> Sampler:
        """Draws indices by the weights of the sources."""
        return Sampler([len(d) for d in self.datasets], batch_size, seed, self.weights)

    def batch(
        self,
        indices: Sequence[int] | np.ndarray,
        augment: Mapping[str, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, torch.Tensor]:
        """As `WindowedDataset.batch`; the samples come grouped by source, in its order."""
        indices = np.asarray(indices)
        parts = []
        for dataset, first, last in zip(
            self.datasets, self._offsets[:-1], self._offsets[1:], strict=True
        ):
            own = indices[(indices >= first) & (indices < last)] - first
            if len(own):
                parts.append(dataset.batch(own, augment, generator))
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def statistics(self) -> dict[str, dict[str, list[float]]]:
        """As `WindowedDataset.statistics`, over the rows of all sources that have the stream."""
        rows: dict[str, list[np.ndarray]] = {}
        for dataset in self.datasets:
            for stream in dataset.statistics():
                rows.setdefault(stream, []).append(dataset.column(stream))
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
