"""The layout and the metadata of a LeRobotDataset v3.0, read with the standard library alone.

    meta/info.json                               fps, features, totals, path templates
    meta/stats.json                              per feature: mean std min max count quantiles
    meta/tasks.parquet                           task text -> task_index
    meta/episodes/chunk-000/file-000.parquet     one row an episode: length, files, timestamps
    data/chunk-000/file-000.parquet              one row a control step
    videos/<key>/chunk-000/file-000.mp4          many episodes a file, one frame a row

A camera slower than the dataset repeats its frames; its true rate is recorded in the feature's
`info` as `wmdsl.rate_hz`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmdsl.data import errors, keys

VERSION = "v3.0"
RATE_FIELD = "wmdsl.rate_hz"
PROVENANCE_PATH = "meta/wmdsl.json"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
FILE_NAME = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_PATH = f"meta/episodes/{FILE_NAME}.parquet"
DATA_PATH = f"data/{FILE_NAME}.parquet"
VIDEO_PATH = "videos/{video_key}/" + FILE_NAME + ".mp4"

CAMERA_TYPES = ("video", "image")

# Columns that every dataset has beside its own features.
INDEX_FEATURES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


@dataclass(frozen=True, slots=True)
class Feature:
    """One column or camera: `shape` is of one row, as stored (an image mostly [H, W, C])."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None
    rate_hz: float

    @property
    def is_camera(self) -> bool:
        return self.dtype in CAMERA_TYPES

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a camera, whichever way it is stored."""
        first, second, third = self.shape
        channels_first = self.names is not None and self.names[0].startswith("channel")
        return (first, second, third) if channels_first else (third, first, second)


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """`meta/info.json` of a dataset: what a spec binds its streams to."""

    root: Path
    fps: float
    features: dict[str, Feature]
    total_episodes: int
    total_frames: int
    total_tasks: int
    robot_type: str | None
    data_path: str
    video_path: str | None

    @classmethod
    def read(cls, root: str | Path) -> DatasetInfo:
        """Read the metadata of the dataset in folder `root`.

        Raises DataError where the folder is no complete LeRobotDataset v3.0.
        """
        root = Path(root)
        if not root.is_dir():
            raise errors.missing("the dataset folder", root, "`wmdsl demos` makes one")
        path = root / INFO_PATH
        if not path.is_file():
            what = f"{INFO_PATH}, which every LeRobot v3 data set has,"
            raise errors.missing(what, root, "name the folder that holds it, or make a data set "
                                 "with `wmdsl demos`")  # fmt: skip
        raw = read_json(path, "the dataset's description")
        try:
            _check_version(raw["codebase_version"], path)
            fps = float(raw["fps"])
            return cls(
                root=root,
                fps=fps,
                features={k: _feature(k, v, fps) for k, v in raw["features"].items()},
                total_episodes=int(raw["total_episodes"]),
                total_frames=int(raw["total_frames"]),
                total_tasks=int(raw.get("total_tasks", 0)),
                robot_type=raw.get("robot_type"),
                data_path=raw.get("data_path") or DATA_PATH,
                video_path=raw.get("video_path"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise errors.bad_metadata(
                f"the description has no usable field {error}",
                path,
                "a LeRobotDataset v3.0 states codebase_version, fps, features and totals",
            ) from error

    @property
    def cameras(self) -> tuple[str, ...]:
        """The names of the cameras, without the prefix `observation.images.`."""
        return tuple(
            key.removeprefix(keys.IMAGE_PREFIX)
            for key, feature in self.features.items()
            if feature.is_camera
        )

    def camera(self, name: str) -> Feature:
        """The feature of a camera, by its name with or without the prefix."""
        for key in (name, keys.image_key(name)):
            if key in self.features and self.features[key].is_camera:
                return self.features[key]
        raise errors.unknown_feature("camera", name, self.cameras, self.root)

    def feature(self, key: str) -> Feature:
        """The feature `key`. Raises DataError with the nearest name."""
        if key in self.features:
            return self.features[key]
        raise errors.unknown_feature("feature", key, self.features, self.root)

    def stride(self, key: str) -> int:
        """Rows from one fresh value of a feature to the next: fps / its rate."""
        rate = self.feature(key).rate_hz
        stride = round(self.fps / rate) if rate > 0 else 0
        if stride < 1 or abs(stride * rate - self.fps) > 1e-6 * self.fps:
            raise errors.wrong_rate(
                f"{key} at {rate:g} Hz does not divide the {self.fps:g} Hz of the rows",
                self.root / INFO_PATH,
                f"`{RATE_FIELD}` must be fps / n",
            )
        return stride

    def stats(self) -> dict[str, dict[str, Any]]:
        """`meta/stats.json`: per feature lists under mean std min max count q01 .. q99."""
        return read_json(self.root / STATS_PATH, "the statistics")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file. Raises DataError for a missing or broken one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise errors.missing(what, path) from error
    except (OSError, ValueError) as error:
        raise errors.unreadable(what, path, error) from error
    if not isinstance(value, dict):
        raise errors.unreadable(what, path, "it holds no JSON object")
    return value


def _check_version(version: str, path: Path) -> None:
    if version.lstrip("v").split(".")[0] != VERSION.lstrip("v").split(".")[0]:
        raise errors.bad_metadata(
            f"the dataset has version {version}, {VERSION} is read",
            path,
            "convert it with lerobot's own converter to v3.0",
        )


def _feature(key: str, raw: dict[str, Any], fps: float) -> Feature:
    names = raw.get("names")
    # Names may be grouped as {"motors": [...]}; the group carries no meaning here.
    if isinstance(names, dict):
        names = [name for group in names.values() for name in _listed(group)]
    facts = raw.get("info") or {}
    dtype, shape = str(raw["dtype"]), tuple(int(size) for size in raw["shape"])
    if dtype in CAMERA_TYPES and len(shape) != 3:
        raise ValueError(f"{key}: a camera has three axes, not {len(shape)}")
    return Feature(
        key=key,
        dtype=dtype,
        shape=shape,
        names=tuple(str(name) for name in names) if names else None,
        rate_hz=float(facts.get(RATE_FIELD, fps)),
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
