"""Read rows and frames of any LeRobotDataset v3.0: several files, videos or images, any rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wmdsl.data import errors, lerobot, video
from wmdsl.data.lerobot import DatasetInfo, Feature


@dataclass(frozen=True, slots=True)
class Episodes:
    """The episodes in order: rows `start[e]` up to `stop[e]` of the dataset; int64 [E].

    `table` holds the further columns of the metadata (files and time stamps), row e for
    episode e.
    """

    start: np.ndarray
    stop: np.ndarray
    table: pa.Table

    @property
    def length(self) -> np.ndarray:
        return self.stop - self.start

    def __len__(self) -> int:
        return len(self.start)


class Dataset:
    """A dataset opened for reading; rows are numbered 0..N-1 over all episodes."""

    def __init__(self, root: str | Path) -> None:
        """Read the metadata. Raises DataError where it is incomplete or contradicts itself."""
        self.info = DatasetInfo.read(root)
        self.root = self.info.root
        self.episodes = _read_episodes(self.info)
        self.tasks = _read_tasks(self.root)

    def columns(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Whole columns by key: [N, *shape] (a shape of [1] gives [N, 1]), index columns [N].

        Floating columns come as float32, others as stored. Raises DataError for unknown keys,
        broken files, rates that contradict the time stamps and values that are not finite.
        """
        for key in keys:
            if self.info.feature(key).is_camera:
                raise errors.wrong_shape(key, "images", "a vector", self.root)
        table = self._rows([*keys, "timestamp", "frame_index", "episode_index"])
        self._check_rows(table)
        return {key: self._column(table, key) for key in keys}

    def row_tasks(self) -> np.ndarray:
        """The number in `tasks` of each row, int64 [N]."""
        (found,) = self.columns(["task_index"]).values()
        if len(found) and not 0 <= found.min() <= found.max() < len(self.tasks):
            raise errors.bad_metadata(
                f"a row has task_index {found.max()}, there are {len(self.tasks)} tasks",
                self.root / lerobot.TASKS_PATH,
                "generate the dataset again",
            )
        return found

    def frames(self, key: str, size: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
        """The fresh frames of a camera in row order, uint8 [H, W, 3].

        Episode e gives ceil(length[e] / stride) frames. `size` (height, width) resizes.
        """
        feature = self.info.feature(key)
        if not feature.is_camera:
            raise errors.unknown_feature("camera", key, self.info.cameras, self.root)
        if feature.dtype == "image":
            return self._stored_images(feature, size)
        return self._video_frames(feature, size)

    def camera_files(self, key: str) -> list[Path]:
        """The files that hold the frames of a camera. Raises DataError if one is missing."""
        if self.info.feature(key).dtype == "image":
            paths = self._files("data", self.info.data_path)
        else:
            template = self.info.video_path or lerobot.VIDEO_PATH
            paths = self._files(f"videos/{key}", template, video_key=key)
        for path in paths:
            if not path.is_file():
                raise errors.missing("a file of frames", path)
        return paths

    def frame_starts(self, key: str) -> np.ndarray:
        """Where each episode's frames begin among those of `frames`, int64 [E + 1]."""
        stride = self.info.stride(key)
        counts = -(-self.episodes.length // stride)
        return np.concatenate([[0], np.cumsum(counts)])

    def _rows(self, columns: Sequence[str]) -> pa.Table:
        parts = []
        for path in self._files("data", self.info.data_path):
            parts.append(_read_parquet(path, "the rows", list(dict.fromkeys(columns))))
        table = pa.concat_tables(parts, promote_options="permissive")
        if table.num_rows != self.info.total_frames:
            raise errors.bad_metadata(
                f"the files hold {table.num_rows} rows, the description says "
                f"{self.info.total_frames}",
                self.root / lerobot.INFO_PATH,
                "copy or generate the dataset again",
            )
        return table

    def _files(self, prefix: str, template: str, **names: str) -> list[Path]:
        return [path for path, _ in self._files_with_episodes(prefix, template, **names)]

    def _files_with_episodes(
        self, prefix: str, template: str, **names: str
    ) -> list[tuple[Path, list[int]]]:
        """The files that episodes lie in, in their order, each with its episodes."""
        chunks = self._metadata_column(f"{prefix}/chunk_index")
        files = self._metadata_column(f"{prefix}/file_index")
        found: dict[Path, list[int]] = {}
        for episode, (chunk, file) in enumerate(zip(chunks, files, strict=True)):
            name = template.format(chunk_index=chunk, file_index=file, **names)
            found.setdefault(self.root / name, []).append(episode)
        return list(found.items())

    def _metadata_column(self, name: str) -> list[Any]:
        if name not in self.episodes.table.column_names:
            raise errors.bad_metadata(
                f"the episodes lack the column {name}",
                self.root / "meta/episodes",
                "copy or generate the dataset again",
            )
        return self.episodes.table[name].to_pylist()

    def _check_rows(self, table: pa.Table) -> None:
        frame_index = table["frame_index"].to_numpy()
        expected = np.concatenate([np.arange(n) for n in self.episodes.length])
        if not np.array_equal(frame_index, expected):
            raise errors.bad_metadata(
                "the rows are not in the order of the episodes",
                self.root,
                "copy or generate the dataset again",
            )
        late = np.abs(table["timestamp"].to_numpy() - frame_index / self.info.fps)
        if late.max() > 0.5 / self.info.fps:
            row = int(late.argmax())
            raise errors.wrong_rate(
                f"row {row} is frame {frame_index[row]} of its episode but is stamped "
                f"{table['timestamp'][row].as_py():.4f} s, which is not {self.info.fps:g} Hz",
                self.root / lerobot.INFO_PATH,
                "state the rate at which the rows were recorded as `fps`",
            )

    def _column(self, table: pa.Table, key: str) -> np.ndarray:
        feature = self.info.feature(key)
        values = _flat(table[key])
        if np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float32)
        if key in lerobot.INDEX_FEATURES:
            return values
        if values.size != table.num_rows * int(np.prod(feature.shape)):
            found = f"{values.size / table.num_rows:g} values a row"
            raise errors.wrong_shape(key, found, feature.shape, self.root)
        values = values.reshape(table.num_rows, *feature.shape)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            row, *component = np.argwhere(~np.isfinite(values))[0].tolist()
            episode = int(np.searchsorted(self.episodes.stop, row, side="right"))
            local = row - int(self.episodes.start[episode])
            raise errors.not_finite(key, component[0], episode, local, self.root)
        return values

    def _video_frames(self, feature: Feature, size: tuple[int, int] | None) -> Iterator[np.ndarray]:
        template = self.info.video_path or lerobot.VIDEO_PATH
        prefix = f"videos/{feature.key}"
        begins = self._metadata_column(f"{prefix}/from_timestamp")
        stride, fps = self.info.stride(feature.key), self.info.fps
        for path, episodes in self._files_with_episodes(prefix, template, video_key=feature.key):
            self._check_video_rate(path)
            wanted = [
                round(begins[episode] * fps) + np.arange(0, self.episodes.length[episode], stride)
                for episode in episodes
            ]
            yield from video.read_frames(path, np.concatenate(wanted), fps, size)

    def _check_video_rate(self, path: Path) -> None:
        rate = video.video_rate(path)
        if abs(rate - self.info.fps) > 0.01 * self.info.fps:
            raise errors.wrong_rate(
                f"the video has {rate:g} frames a second, the dataset {self.info.fps:g}",
                path,
                "a LeRobot video holds one frame a row; encode it at the dataset's fps",
            )

    def _stored_images(
        self, feature: Feature, size: tuple[int, int] | None
    ) -> Iterator[np.ndarray]:
        stride = self.info.stride(feature.key)
        for path in self._files("data", self.info.data_path):
            table = _read_parquet(path, "the rows", [feature.key, "frame_index"])
            fresh = np.flatnonzero(table["frame_index"].to_numpy() % stride == 0)
            for record in table[feature.key].take(pa.array(fresh)).to_pylist():
                yield video.decode_image(self._image_bytes(record), path, size)

    def _image_bytes(self, record: dict[str, Any]) -> bytes:
        if record["bytes"] is not None:
            return record["bytes"]
        path = self.root / record["path"]
        if not path.is_file():
            raise errors.missing("an image", path)
        return path.read_bytes()


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    """All numbers of a column of scalars or of nested lists, in row order."""
    array = column.combine_chunks()
    while pa.types.is_nested(array.type):
        array = array.flatten()
    return np.array(array.to_numpy(zero_copy_only=False))


def _read_episodes(info: DatasetInfo) -> Episodes:
    folder = info.root / "meta/episodes"
    paths = sorted(folder.glob("*/*.parquet"))
    if not paths:
        raise errors.missing("the table of episodes", folder)
    parts = [_read_parquet(path, "the table of episodes", None) for path in paths]
    table = pa.concat_tables(parts, promote_options="permissive").sort_by("episode_index")
    lengths = table["length"].to_numpy()
    stop = np.cumsum(lengths)
    if len(lengths) != info.total_episodes or (stop[-1] if len(stop) else 0) != info.total_frames:
        raise errors.bad_metadata(
            f"{len(lengths)} episodes of {int(lengths.sum())} rows are listed, the description "
            f"says {info.total_episodes} of {info.total_frames}",
            folder,
            "copy or generate the dataset again",
        )
    return Episodes(stop - lengths, stop, table)


def _read_tasks(root: Path) -> tuple[str, ...]:
    table = _read_parquet(root / lerobot.TASKS_PATH, "the table of tasks", None)
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or len(texts) != 1:
        raise errors.bad_metadata(
            "the table of tasks needs a column of texts and the column task_index",
            root / lerobot.TASKS_PATH,
            "generate the dataset again",
        )
    ordered = table.sort_by("task_index")
    return tuple(ordered[texts[0]].to_pylist())


def _read_parquet(path: Path, what: str, columns: list[str] | None) -> pa.Table:
    if not path.is_file():
        raise errors.missing(what, path)
    try:
        if columns is None:
            present = pq.read_schema(path).names
            columns = [name for name in present if not name.startswith("stats/")]
        table = pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise errors.unreadable(what, path, error) from error
    absent = set(columns) - set(table.column_names)
    if absent:
        raise errors.bad_metadata(
            f"{what} lack the column {', '.join(sorted(absent))}",
            path,
            "copy or generate the dataset again",
        )
    return table
