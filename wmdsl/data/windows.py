"""Windows of streams around anchor rows: what a training batch is made of.

Shape suffixes: B batch, T rows of a window, F frames of a window, C H W image, D vector, L bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from wmdsl.data import errors, keys
from wmdsl.data.frames import load_frames
from wmdsl.data.reader import Dataset
from wmdsl.data.text import encode_text
from wmdsl.data.views import Tile, assembled

TEXT_TYPES = ("string", "language")


@dataclass(frozen=True, slots=True)
class Window:
    """What a stream reads: the feature `key` at `offsets` rows from the anchor row.

    `shape` is that of one element: (C, H, W) of a camera, to which its frames are resized; (D,)
    of a vector, which must match; (L,) of the text under the key `task`, which has no offsets.
    It may be left out where the data tells it (the longest text for L). An `optional` stream may
    be absent from all datasets; then it needs a shape.  With `views` there are several cameras
    instead of the key: one canvas of that shape, or, `apart`, frames of that shape side by side.
    A `still` has no axis of time: it is read at its one offset.
    An `acted` one is zero before the episode's start, when nothing had been done: to repeat its
    first row would tell the action that is still to come.  Of `padded` vectors a batch says which
    numbers a body has, as the column `KEY.numbers` does of each row; all where there is none.
    """

    stream: str
    key: str
    offsets: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None
    optional: bool = False
    views: tuple[Tile, ...] = ()
    apart: bool = False
    still: bool = False
    acted: bool = False
    padded: bool = False

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """The features that it reads, each with the place and size of what is read."""
        size = self.shape[1:] if self.shape and len(self.shape) == 3 else (0, 0)
        return self.views or (Tile(self.key, (0, 0, *size)),)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(tile.key for tile in self.tiles)


class _Place(NamedTuple):
    """Where the anchors of a batch lie: rows int64 [B] with their episodes' bounds [B]."""

    rows: torch.Tensor
    start: torch.Tensor
    stop: torch.Tensor


class WindowedDataset:
    """A dataset in memory, cut into windows; every frame is decoded once."""

    def __init__(
        self,
        root: str | Path,
        windows: Sequence[Window],
        *,
        anchors: np.ndarray | None = None,
        cache: Path | None = None,
    ) -> None:
        """Load what `windows` read from the dataset in folder `root`.

        `anchors` are the rows that batches start from, int64; by default all rows in which every
        camera is fresh. Raises DataError for unknown keys, other shapes and broken files.
        """
        self.dataset = Dataset(root)
        self.windows = tuple(_resolved(self.dataset, window) for window in windows)
        self.missing = tuple(w.stream for w in self.windows if not _present(self.dataset, w))
        self._cameras = _load_cameras(self.dataset, self.windows, cache)
        self._columns = _load_columns(self.dataset, self.windows)
        self._numbers = _load_numbers(self.dataset, self.windows)
        self._text = _encode_tasks(self.dataset, self.windows)
        self._task = torch.from_numpy(self.dataset.row_tasks())
        episodes = self.dataset.episodes
        episode_of_row = np.repeat(np.arange(len(episodes)), episodes.length)
        self._episode = torch.from_numpy(episode_of_row)
        self._start = torch.from_numpy(episodes.start)
        self._stop = torch.from_numpy(episodes.stop)
        chosen = self._fresh_rows() if anchors is None else np.asarray(anchors, dtype=np.int64)
        if not len(chosen):
            raise errors.empty("no row to start a window from", root, "check the anchors")
        self._anchors = torch.from_numpy(chosen)

    def __len__(self) -> int:
        """The number of anchors."""
        return len(self._anchors)

    def batch(
        self,
        indices: Sequence[int] | np.ndarray | torch.Tensor,
        shift_pixels: int = 0,
        generator: torch.Generator | None = None,
    ) -> dict[str, torch.Tensor]:
        """The windows at anchors `indices` [B], by stream.

        Cameras are float32 [B, F, C, H, W] in 0..1, stills [B, C, H, W], vectors float32
        [B, T, D] in raw units, text int64 [B, L]. `<stream>.valid` is bool [B, F | T | L]: False
        beyond the episode (there the nearest row is repeated, but for `acted` windows at its
        start), where a text is padding, and for a missing stream (zeros).  `generator` draws one
        shift of at most `shift_pixels` a sample and camera, the same for all its frames in
        whichever streams.
        """
        rows = self._anchors[torch.as_tensor(indices, dtype=torch.int64)]
        episode = self._episode[rows]
        place = _Place(rows, self._start[episode], self._stop[episode])
        drawn = self._draw_shifts(len(rows), shift_pixels, generator)
        batch = {}
        for window in self.windows:
            values, valid = self._read(window, place, drawn)
            batch[window.stream] = values[:, 0] if window.still else values
            batch[f"{window.stream}.valid"] = valid
            if window.padded:
                batch[f"{window.stream}.numbers"] = self._present(window, place)
        return batch

    def columns(self) -> dict[str, np.ndarray]:
        """All rows of each vector stream, float32 [N, D]."""
        return {
            window.stream: self._columns[window.key].numpy()
            for window in self.windows
            if window.key in self._columns
        }

    def _read(
        self, window: Window, place: _Place, drawn: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if window.key == keys.TASK:
            text = self._text[window.stream][self._task[place.rows]]
            return text, text != 0
        if window.stream in self.missing:
            size = (len(place.rows), len(window.offsets))
            sample = (len(window.views),) * window.apart + window.shape
            return torch.zeros(*size, *sample), torch.zeros(size, dtype=torch.bool)
        rows = place.rows[:, None] + torch.tensor(window.offsets)
        early = rows < place.start[:, None]
        valid = ~early & (rows < place.stop[:, None])
        rows = rows.clamp(place.start[:, None], place.stop[:, None] - 1)
        if window.key in self._columns:
            values = self._columns[window.key][rows]
            if window.acted:
                values[early] = 0
            return values, valid
        frames = [
            self._cameras[tile.key, tile.size].read(rows, self._episode[rows], drawn.get(tile.key))
            for tile in window.tiles
        ]
        if not window.views:
            return frames[0], valid
        return assembled(frames, window.views, window.shape, window.apart), valid

    def _present(self, window: Window, place: _Place) -> torch.Tensor:
        """Which numbers of a padded window a body has, bool [B, T, D]."""
        shape = (len(place.rows), len(window.offsets), *window.shape)
        if window.stream in self.missing:
            return torch.zeros(shape, dtype=torch.bool)
        if window.key not in self._numbers:
            return torch.ones(shape, dtype=torch.bool)
        return self._numbers[window.key][place.rows][:, None].expand(shape)

    def _draw_shifts(
        self, batch: int, limit: int, generator: torch.Generator | None
    ) -> dict[str, torch.Tensor]:
        """(down, right) in pixels by camera, int64 [B, 2]; drawn in the order of the windows."""
        cameras = dict.fromkeys(key for key, _ in self._cameras) if limit else ()
        return {
            key: torch.randint(-limit, limit + 1, (batch, 2), generator=generator)
            for key in cameras
        }

    def _fresh_rows(self) -> np.ndarray:
        cameras = {key for key, _ in self._cameras}
        stride = math.lcm(*(self.dataset.info.stride(key) for key in cameras))
        episodes = self.dataset.episodes
        within = np.arange(episodes.stop[-1]) - np.repeat(episodes.start, episodes.length)
        return np.flatnonzero(within % stride == 0)


class _Camera:
    """The frames of one camera, addressed by row."""

    def __init__(self, frames: np.ndarray, dataset: Dataset, key: str) -> None:
        self._frames = frames
        self._stride = dataset.info.stride(key)
        self._first_frame = torch.from_numpy(dataset.frame_starts(key)[:-1])
        self._first_row = torch.from_numpy(dataset.episodes.start)

    def read(
        self, rows: torch.Tensor, episode: torch.Tensor, shift: torch.Tensor | None
    ) -> torch.Tensor:
        """Frames at rows [B, F], shifted by [B, 2] pixels: float32 [B, F, C, H, W] in 0..1."""
        within = (rows - self._first_row[episode]) // self._stride
        numbers = (self._first_frame[episode] + within).numpy()
        images = self._frames[numbers]
        if shift is not None:
            images = _shifted(images, shift.numpy())
        return torch.from_numpy(images).permute(0, 1, 4, 2, 3).float().div_(255)


def _shifted(images: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Move images [B, F, H, W, C] by (down, right) [B, 2] pixels; edges are repeated."""
    height, width = images.shape[2:4]
    limit = int(np.abs(shift).max())
    padding = ((0, 0), (0, 0), (limit, limit), (limit, limit), (0, 0))
    padded = np.pad(images, padding, mode="edge")
    moved = np.empty_like(images)
    for sample, (down, right) in enumerate(limit - shift):
        moved[sample] = padded[sample, :, down : down + height, right : right + width]
    return moved


def _present(dataset: Dataset, window: Window) -> bool:
    return window.key == keys.TASK or all(key in dataset.info.features for key in window.keys)


def _resolved(dataset: Dataset, window: Window) -> Window:
    """The window with its shape filled in and checked against the dataset."""
    if window.key == keys.TASK:
        length = max(len(text.encode()) for text in dataset.tasks)
        return replace(window, shape=window.shape or (length,))
    if not window.offsets:
        raise errors.empty(f"stream {window.stream} reads no row", dataset.root, "give it offsets")
    if not _present(dataset, window) and window.optional and window.shape is not None:
        return window
    return replace(window, shape=[_fitting(dataset, window, key) for key in window.keys][0])


def _fitting(dataset: Dataset, window: Window, key: str) -> tuple[int, ...]:
    """The shape of a window that a feature can fill."""
    feature = dataset.info.feature(key)
    shape = feature.image_shape if feature.is_camera else feature.shape
    wanted = window.shape or shape
    if feature.is_camera:
        fits = len(wanted) == 3 and wanted[0] == 3
    else:
        fits = wanted == shape and feature.dtype not in TEXT_TYPES and not window.views
    if not fits:
        raise errors.wrong_shape(key, shape, wanted, dataset.root)
    return wanted


def _load_cameras(
    dataset: Dataset, windows: Sequence[Window], cache: Path | None
) -> dict[tuple[str, tuple[int, ...]], _Camera]:
    features = dataset.info.features
    wanted = {
        (tile.key, tile.size): None
        for window in windows
        for tile in window.tiles
        if tile.key in features and features[tile.key].is_camera
    }
    return {
        (key, size): _Camera(load_frames(dataset, key, size, cache), dataset, key)
        for key, size in wanted
    }


def _load_columns(dataset: Dataset, windows: Sequence[Window]) -> dict[str, torch.Tensor]:
    features = dataset.info.features
    wanted = {w.key: None for w in windows if w.key in features and not features[w.key].is_camera}
    columns = dataset.columns(list(wanted))
    return {key: torch.from_numpy(values).float() for key, values in columns.items()}


def _load_numbers(dataset: Dataset, windows: Sequence[Window]) -> dict[str, torch.Tensor]:
    """Which numbers of each row are no padding, bool [N, D], by the key of what they are."""
    found = {}
    for window in windows:
        name = f"{window.key}.numbers"
        if window.padded and name in dataset.info.features:
            shape = dataset.info.feature(name).shape
            if shape != window.shape:
                raise errors.wrong_shape(name, shape, window.shape, dataset.root)
            found[window.key] = torch.from_numpy(dataset.columns([name])[name]) > 0.5
    return found


def _encode_tasks(dataset: Dataset, windows: Sequence[Window]) -> dict[str, torch.Tensor]:
    """The encoded instructions by stream, int64 [tasks, L]."""
    encoded = {}
    for window in windows:
        if window.key == keys.TASK:
            (length,) = window.shape
            texts = [encode_text(text, length, dataset.root) for text in dataset.tasks]
            encoded[window.stream] = torch.from_numpy(np.stack(texts))
    return encoded
