"""Write a LeRobotDataset v3.0 in one go: episodes in, a complete folder or nothing out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wmdsl.data import errors, lerobot
from wmdsl.data.lerobot import Feature
from wmdsl.data.statistics import PixelHistogram, Statistics, vector_statistics
from wmdsl.data.video import CODEC, PIXEL_FORMAT, VideoWriter

_CHUNK_FILES = 1000
_DATA_MEGABYTES = 100
_VIDEO_MEGABYTES = 200


class DatasetWriter:
    """Collects episodes in a hidden folder beside `root` and moves it there at the end.

    Use as a context manager: an exception, Ctrl-C included, removes the unfinished folder.
    """

    def __init__(
        self, root: str | Path, fps: int, features: Iterable[Feature], robot_type: str
    ) -> None:
        """`features` are vectors (float32, 1-D) and cameras (dtype video, shape [H, W, 3]).

        Raises DataError if `root` exists or cannot be written.
        """
        self.root = Path(root)
        self._fps = fps
        self._robot_type = robot_type
        self._features = {feature.key: feature for feature in features}
        self._vectors = [f for f in self._features.values() if not f.is_camera]
        self._cameras = [f for f in self._features.values() if f.is_camera]
        self._folder = self.root.parent / f".{self.root.name}.writing"
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._rows: dict[str, list[np.ndarray]] = {}
        self._pixels = {f.key: PixelHistogram() for f in self._cameras}
        self._total_rows = 0
        if self.root.exists():
            raise errors.occupied(self.root, "choose another folder or delete this one")
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
        except OSError as error:
            raise errors.not_writable(self._folder, error) from error
        self._data = _DataFiles(self._folder, self._vectors)
        self._videos = {f.key: _VideoFiles(self._folder, f, fps) for f in self._cameras}

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._data.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def add_episode(
        self, vectors: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray], task: str
    ) -> None:
        """Append one episode of N rows.

        `vectors`: float32 [N, D] by key. `images`: uint8 [M, H, W, 3] by key, the fresh frames
        of a camera only, M = ceil(N / stride). Raises DataError where a shape, a count or a
        value is wrong, or the disk is full.
        """
        length = self._checked_length(vectors, images)
        try:
            record = self._append(length, vectors, images, task)
        except OSError as error:
            raise errors.not_writable(self._folder, error) from error
        self._episodes.append(record)
        self._total_rows += length

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Write the metadata and move the folder to its place.

        `provenance` is kept as `meta/wmdsl.json`. Raises DataError if there is no episode.
        """
        if not self._episodes:
            raise errors.empty("a dataset without episodes", self.root, "add an episode first")
        try:
            self._data.close()
            for files in self._videos.values():
                files.close()
            self._write_metadata(provenance)
            os.replace(self._folder, self.root)
        except OSError as error:
            raise errors.not_writable(self.root, error) from error

    def _append(
        self,
        length: int,
        vectors: Mapping[str, np.ndarray],
        images: Mapping[str, np.ndarray],
        task: str,
    ) -> dict[str, Any]:
        number = len(self._episodes)
        task_index = self._tasks.setdefault(task, len(self._tasks))
        columns = self._index_columns(length, number, task_index)
        columns |= {f.key: np.asarray(vectors[f.key], np.float32) for f in self._vectors}
        record: dict[str, Any] = {
            "episode_index": number,
            "tasks": [task],
            "length": length,
            "dataset_from_index": self._total_rows,
            "dataset_to_index": self._total_rows + length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        record |= self._data.append(columns)
        statistics = {key: vector_statistics(values) for key, values in columns.items()}
        for feature in self._cameras:
            record |= self._videos[feature.key].append(images[feature.key], length)
            statistics[feature.key] = self._count_pixels(feature, images[feature.key], length)
        for key, values in columns.items():
            self._rows.setdefault(key, []).append(values)
        for key, found in statistics.items():
            record |= {f"stats/{key}/{name}": value.tolist() for name, value in found.items()}
        return record

    def _checked_length(
        self, vectors: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray]
    ) -> int:
        given = {*vectors, *images}
        if given != set(self._features):
            odd = sorted(given ^ set(self._features))
            raise errors.bad_metadata(
                f"an episode's features differ from the declared ones in {', '.join(odd)}",
                self.root,
                f"declared are {', '.join(sorted(self._features))}",
            )
        lengths = {len(values) for values in vectors.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise errors.wrong_shape("an episode", sorted(lengths), "one length > 0", self.root)
        length = lengths.pop()
        for feature in self._vectors:
            _check_vector(feature, vectors[feature.key], len(self._episodes), self.root)
        for feature in self._cameras:
            wanted = (_fresh_frames(length, self._stride(feature)), *feature.shape)
            if images[feature.key].shape != wanted or images[feature.key].dtype != np.uint8:
                found = (images[feature.key].shape, str(images[feature.key].dtype))
                raise errors.wrong_shape(feature.key, found, (wanted, "uint8"), self.root)
        return length

    def _stride(self, feature: Feature) -> int:
        return round(self._fps / feature.rate_hz)

    def _index_columns(self, length: int, episode: int, task_index: int) -> dict[str, np.ndarray]:
        frame_index = np.arange(length, dtype=np.int64)
        return {
            "timestamp": (frame_index / self._fps).astype(np.float32),
            "frame_index": frame_index,
            "episode_index": np.full(length, episode, dtype=np.int64),
            "index": frame_index + self._total_rows,
            "task_index": np.full(length, task_index, dtype=np.int64),
        }

    def _count_pixels(self, feature: Feature, images: np.ndarray, length: int) -> Statistics:
        histogram = PixelHistogram()
        histogram.add(images, _repeats(length, self._stride(feature)))
        self._pixels[feature.key].merge(histogram)
        return histogram.statistics()

    def _write_metadata(self, provenance: Mapping[str, Any]) -> None:
        meta = self._folder / "meta"
        episodes = self._folder / lerobot.EPISODES_PATH.format(chunk_index=0, file_index=0)
        episodes.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self._episodes), episodes)
        pq.write_table(_tasks_table(self._tasks), meta / "tasks.parquet")
        statistics = {
            key: vector_statistics(np.concatenate(parts)) for key, parts in self._rows.items()
        } | {key: pixels.statistics() for key, pixels in self._pixels.items()}
        listed = {
            key: {name: value.tolist() for name, value in found.items()}
            for key, found in statistics.items()
        }
        _write_json(self._folder / lerobot.INFO_PATH, self._info())
        _write_json(self._folder / lerobot.STATS_PATH, listed)
        _write_json(self._folder / lerobot.PROVENANCE_PATH, provenance)

    def _info(self) -> dict[str, Any]:
        own = {f.key: _feature_info(f, self._fps) for f in self._features.values()}
        index = {
            key: {"dtype": dtype, "shape": [1], "names": None}
            for key, dtype in lerobot.INDEX_FEATURES.items()
        }
        return {
            "codebase_version": lerobot.VERSION,
            "robot_type": self._robot_type,
            "total_episodes": len(self._episodes),
            "total_frames": self._total_rows,
            "total_tasks": len(self._tasks),
            "chunks_size": _CHUNK_FILES,
            "data_files_size_in_mb": _DATA_MEGABYTES,
            "video_files_size_in_mb": _VIDEO_MEGABYTES,
            "fps": self._fps,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": lerobot.DATA_PATH,
            "video_path": lerobot.VIDEO_PATH if self._cameras else None,
            "features": own | index,
        }


class _DataFiles:
    """The parquet files of the rows: one row group an episode, a new file when one is large."""

    def __init__(self, folder: Path, vectors: list[Feature]) -> None:
        self._folder = folder
        self._types = {name: pa.from_numpy_dtype(t) for name, t in lerobot.INDEX_FEATURES.items()}
        self._types |= {f.key: _arrow_type(f) for f in vectors}
        self._writer: pq.ParquetWriter | None = None
        self._number = -1
        self._bytes = 0

    def append(self, columns: Mapping[str, np.ndarray]) -> dict[str, int]:
        table = pa.table({k: _arrow_array(v, self._types[k]) for k, v in columns.items()})
        if self._writer is None or self._bytes + table.nbytes > _DATA_MEGABYTES * 2**20:
            self._open_next(table.schema)
        self._writer.write_table(table)
        self._bytes += table.nbytes
        chunk, file = divmod(self._number, _CHUNK_FILES)
        return {"data/chunk_index": chunk, "data/file_index": file}

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open_next(self, schema: pa.Schema) -> None:
        self.close()
        self._number += 1
        self._bytes = 0
        chunk, file = divmod(self._number, _CHUNK_FILES)
        path = self._folder / lerobot.DATA_PATH.format(chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(path, schema)


class _VideoFiles:
    """The mp4 files of one camera; a frame a row, held frames repeated."""

    def __init__(self, folder: Path, feature: Feature, fps: int) -> None:
        self._folder = folder
        self._feature = feature
        self._fps = fps
        self._stride = round(fps / feature.rate_hz)
        self._writer: VideoWriter | None = None
        self._number = -1

    def append(self, images: np.ndarray, length: int) -> dict[str, Any]:
        if self._writer is None or self._writer.bytes > _VIDEO_MEGABYTES * 2**20:
            self._open_next()
        first = self._writer.frames
        for image, repeat in zip(images, _repeats(length, self._stride), strict=True):
            for _ in range(repeat):
                self._writer.append(image)
        chunk, file = divmod(self._number, _CHUNK_FILES)
        return {
            f"videos/{self._feature.key}/chunk_index": chunk,
            f"videos/{self._feature.key}/file_index": file,
            f"videos/{self._feature.key}/from_timestamp": first / self._fps,
            f"videos/{self._feature.key}/to_timestamp": (first + length) / self._fps,
        }

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open_next(self) -> None:
        self.close()
        self._number += 1
        chunk, file = divmod(self._number, _CHUNK_FILES)
        path = self._folder / lerobot.VIDEO_PATH.format(
            video_key=self._feature.key, chunk_index=chunk, file_index=file
        )
        height, width, _ = self._feature.shape
        self._writer = VideoWriter(path, (height, width), self._fps)


def _fresh_frames(length: int, stride: int) -> int:
    return -(-length // stride)


def _repeats(length: int, stride: int) -> list[int]:
    """How many rows each fresh frame stands for."""
    return [min(stride, length - start) for start in range(0, length, stride)]


def _check_vector(feature: Feature, values: np.ndarray, episode: int, root: Path) -> None:
    if values.shape[1:] != feature.shape:
        raise errors.wrong_shape(feature.key, values.shape[1:], feature.shape, root)
    if not np.isfinite(values).all():
        row, component = np.argwhere(~np.isfinite(values))[0]
        raise errors.not_finite(feature.key, int(component), episode, int(row), root)


def _arrow_type(feature: Feature) -> pa.DataType:
    (size,) = feature.shape
    return pa.float32() if size == 1 else pa.list_(pa.float32(), size)


def _arrow_array(values: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).ravel())
    if pa.types.is_fixed_size_list(arrow_type):
        return pa.FixedSizeListArray.from_arrays(flat, type=arrow_type)
    return flat


def _tasks_table(tasks: Mapping[str, int]) -> pa.Table:
    """Task texts as the index that pandas, and so LeRobot, expects."""
    index = "__index_level_0__"
    table = pa.table({"task_index": list(tasks.values()), index: list(tasks)})
    described = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64",
         "numpy_type": "int64", "metadata": None},
        {"name": None, "field_name": index, "pandas_type": "unicode",
         "numpy_type": "object", "metadata": None},
    ]  # fmt: skip
    facts = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": described,
        "creator": {"library": "pyarrow", "version": pa.__version__},
    }
    return table.replace_schema_metadata({b"pandas": json.dumps(facts).encode()})


def _feature_info(feature: Feature, fps: int) -> dict[str, Any]:
    names = list(feature.names) if feature.names else None
    described = {"dtype": feature.dtype, "shape": list(feature.shape), "names": names}
    if not feature.is_camera:
        return described
    height, width, channels = feature.shape
    return described | {
        "info": {
            "video.height": height,
            "video.width": width,
            "video.channels": channels,
            "video.fps": fps,
            "video.codec": "h264",
            "video.pix_fmt": PIXEL_FORMAT,
            "video.encoder": CODEC,
            "video.is_depth_map": False,
            "has_audio": False,
            lerobot.RATE_FIELD: feature.rate_hz,
        }
    }


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
