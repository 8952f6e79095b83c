"""Streams of a plan bound to the columns of a data set: rates become integer strides."""

from __future__ import annotations

from fractions import Fraction

from wmdsl.check.model import Model, Stream
from wmdsl.data.views import Tile
from wmdsl.data.windows import Window

VIDEO = ("video", "image")


def windows(model: Model, rows_hz: Fraction | int) -> tuple[Window, ...]:
    """One window per stream that has data; offsets count rows of a data set at `rows_hz`."""
    return tuple(
        Window(
            stream.name,
            stream.key,
            offsets(stream, Fraction(rows_hz)),
            stream.shape,
            views=tuple(Tile(view.key, view.place) for view in stream.views),
            apart=bool(stream.apart),
            still=stream.modality == "image",
            acted=stream.modality == "action",
            padded=stream.attributes.get("valid") == "mask",
        )
        for stream in model.streams.values()
        if stream.keys
    )


def offsets(stream: Stream, rows_hz: Fraction) -> tuple[int, ...]:
    """Row offsets of all samples of a stream; `check --data` has refused rates that do not fit."""
    samples = [offset for segment in stream.segments for offset in segment.offsets]
    if stream.rate_hz is None or not samples:
        return (0,)
    stride = rows_hz / stream.rate_hz
    if stride.denominator != 1:
        raise ValueError(f"{stream.name} at {stream.rate_hz} Hz does not divide {rows_hz} Hz")
    return tuple(offset * stride.numerator for offset in samples)


def image_streams(model: Model) -> tuple[str, ...]:
    """Names of the streams that a blind control does not see."""
    return tuple(stream.name for stream in model.streams.values() if stream.modality in VIDEO)


def action_streams(model: Model) -> tuple[str, ...]:
    """Names of the streams that a control with shuffled actions mixes over the batch."""
    return tuple(stream.name for stream in model.streams.values() if stream.modality == "action")


def augmentations(model: Model) -> dict[str, int]:
    """Largest random shift in pixels by stream, where the spec declares one."""
    return {
        stream.name: int(stream.attributes["augment"])  # type: ignore[call-overload]
        for stream in model.streams.values()
        if stream.modality in VIDEO and stream.attributes.get("augment")
    }
