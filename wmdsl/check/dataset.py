"""A model against the metadata of a data set: columns, shapes and rates."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Protocol

from wmdsl.check import errors
from wmdsl.check.model import Model, Stream
from wmdsl.diagnostics import Diagnostics

TASK = "task"
CAMERAS = ("video", "image")
UNRECORDED = ("learned",)
COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


class Feature(Protocol):
    """A column or camera: `shape` of one row, `rate_hz` at which it was truly recorded."""

    shape: tuple[int, ...]
    rate_hz: float
    is_camera: bool
    image_shape: tuple[int, int, int]


class DataSet(Protocol):
    """What `check_data` reads of a data set; rows come at `fps`."""

    root: object
    fps: float
    features: Mapping[str, Feature]


def check_data(model: Model, data: DataSet, diagnostics: Diagnostics) -> None:
    """Report every stream that the data set lacks or holds in another shape or rate."""
    for stream in model.streams.values():
        if stream.modality in UNRECORDED or stream.key == TASK:
            continue
        for key in dict.fromkeys(stream.keys):
            _check_column(stream, key, data, diagnostics)


def _check_column(stream: Stream, key: str, data: DataSet, diagnostics: Diagnostics) -> None:
    feature = data.features.get(key)
    if feature is None:
        diagnostics.add(errors.dataset.not_recorded(stream, key, data.root, _fitting(stream, data)))
        return
    _check_shape(stream, key, feature, diagnostics)
    _check_rate(stream, key, feature, data, diagnostics)


def _fitting(stream: Stream, data: DataSet) -> list[str]:
    """Keys of the data set that a stream of this modality could read."""
    if stream.modality == "language":
        return [TASK]
    camera = stream.modality in CAMERAS
    return [
        key
        for key, feature in data.features.items()
        if feature.is_camera == camera and key not in COUNTERS
    ]


def _check_shape(stream: Stream, key: str, feature: Feature, diagnostics: Diagnostics) -> None:
    """Frames are resized, so only their channels must agree; vectors must agree."""
    if (stream.modality in CAMERAS) != feature.is_camera:
        diagnostics.add(errors.dataset.recorded_otherwise(stream, key, feature.is_camera))
    elif feature.is_camera and feature.image_shape[0] != stream.shape[0]:
        diagnostics.add(errors.dataset.shape_recorded(stream, key, feature.image_shape))
    elif not feature.is_camera and tuple(feature.shape) != stream.shape:
        diagnostics.add(errors.dataset.shape_recorded(stream, key, tuple(feature.shape)))


def _check_rate(
    stream: Stream, key: str, feature: Feature, data: DataSet, diagnostics: Diagnostics
) -> None:
    """A sample must come every so many whole rows, and not more often than it was recorded."""
    if stream.rate_hz is None:
        return
    recorded, rows = _exact(feature.rate_hz), _exact(data.fps)
    if stream.rate_hz > recorded:
        diagnostics.add(errors.dataset.recorded_slower(stream, key, recorded))
    elif any((rate / stream.rate_hz).denominator != 1 for rate in (rows, recorded)):
        diagnostics.add(errors.dataset.stride_not_whole(stream, rows, recorded))


def _exact(rate: float) -> Fraction:
    return Fraction(rate).limit_denominator(10_000)
