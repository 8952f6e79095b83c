"""The past of an episode, cut into windows exactly as training cuts a recorded one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from wmdsl.check.model import Model, Query, Segment, Stream
from wmdsl.data import keys
from wmdsl.data.text import encode_text
from wmdsl.runtime import errors
from wmdsl.runtime.binding import VIDEO, offsets
from wmdsl.runtime.observing import frame


@dataclass(frozen=True, slots=True)
class Track:
    """A stream that a query is given, and when it is looked at.

    `rows` are the control steps of its samples, relative to now; a text has none.  An `acted` one
    holds actions that were executed; a `hidden` one shows zeros, as it did in training.
    """

    stream: Stream
    rows: tuple[int, ...]
    acted: bool
    hidden: bool

    @property
    def seen(self) -> bool:
        """Whether its samples come from observations."""
        return not (self.acted or self.hidden)


def tracks_of(
    model: Model,
    query: Query,
    action: Stream,
    control_hz: Fraction,
    camera_hz: Fraction | None = None,
    hidden: Collection[str] = (),
) -> tuple[Track, ...]:
    """What a query looks at.  `action` is the stream that is executed, at `control_hz`; a camera
    that was recorded at `camera_hz` showed the frame before where there was none at that moment.
    `hidden` are the names of streams that show zeros.

    Raises RunError for givens that nobody can observe, and for rates without a whole ratio.
    """
    for segment in query.given:
        if not segment.observed:
            raise errors.not_observed(query.name, segment.reference)
    return looked_at(model, query.name, query.given, action, control_hz, camera_hz, hidden)


def looked_at(
    model: Model,
    asker: str,
    given: Iterable[Segment],
    action: Stream,
    control_hz: Fraction,
    camera_hz: Fraction | None = None,
    hidden: Collection[str] = (),
) -> tuple[Track, ...]:
    """As `tracks_of`, of observed segments that `asker` is given."""
    found: dict[str, list[Segment]] = {}
    for segment in given:
        if model.streams[segment.stream].keys:
            found.setdefault(segment.stream, []).append(segment)
    return tuple(
        Track(
            model.streams[name],
            _rows(model.streams[name], segments, control_hz, camera_hz),
            _acted(model.streams[name], segments, action, asker),
            name in hidden,
        )
        for name, segments in found.items()
    )


def _rows(
    stream: Stream, given: Sequence[Segment], control_hz: Fraction, camera_hz: Fraction | None
) -> tuple[int, ...]:
    """Control steps of the window up to the last sample that is given."""
    if stream.modality == "language":
        return ()
    if stream.rate_hz is not None and (control_hz / stream.rate_hz).denominator != 1:
        raise errors.rate_misfit(stream, control_hz)
    count = max(stream.start(part.name) + part.length for part in given)
    rows = offsets(stream, control_hz)[:count]
    if stream.modality not in VIDEO or camera_hz is None:
        return rows
    stride = control_hz / camera_hz
    return tuple(int(row // stride * stride) for row in rows)


def _acted(stream: Stream, given: Sequence[Segment], action: Stream, asker: str) -> bool:
    if stream.modality != "action":
        return False
    for segment in given:
        if stream.key != action.key or max(segment.offsets) >= 0:
            raise errors.not_observed(asker, segment.reference)
    return True


def looks_between(tracks: Iterable[Track], execute: int) -> dict[int, tuple[str, ...]]:
    """Which columns are looked at inside a chunk of `execute` control steps, by step from 1 on."""
    found: dict[int, dict[str, None]] = {}
    for track in tracks:
        for step in {row % execute for row in track.rows} - {0}:
            if track.seen:
                found.setdefault(step, {}).update(dict.fromkeys(track.stream.keys))
    return {step: tuple(found[step]) for step in sorted(found)}


Samples = dict[str, dict[int, np.ndarray]]  # by stream and control step


class History:
    """One episode: what was seen and done, by control step.

    What was predicted stands for what has not been seen, until it is.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._tracks = tracks
        self._samples: Samples = {track.stream.name: {} for track in tracks}
        self._predicted: Samples = {track.stream.name: {} for track in tracks}

    def see(self, row: int, observation: Mapping[str, Any]) -> None:
        """Keep what an observation shows of each stream; it may lack what nobody looks at."""
        for track in self._tracks:
            if track.seen and all(key in observation for key in track.stream.keys):
                at = row if track.rows else 0
                self._samples[track.stream.name][at] = sample(track.stream, observation)

    def act(self, row: int, actions: np.ndarray) -> None:
        """Keep the actions [steps, A] that were executed from a control step on."""
        for track in self._tracks:
            if track.acted:
                self._samples[track.stream.name] |= dict(enumerate(actions, row))

    def predict(self, stream: str, rows: Iterable[int], samples: np.ndarray) -> None:
        """Keep what a stream is predicted to show [rows, *sample]; later predictions replace it."""
        self._predicted[stream] |= dict(zip(rows, samples, strict=True))

    def windows(self, row: int) -> dict[str, np.ndarray]:
        """The window of every stream at a control step, in raw units; what is older is dropped.

        As in training the first observation stands for those before it, and before the first
        action there were none: zeros.  Raises RunError for a sample that was not observed.
        """
        found = {track.stream.name: self._window(track, row) for track in self._tracks}
        for track in self._tracks:
            self._forget(track.stream.name, row + min(track.rows, default=0))
        return found

    def _forget(self, stream: str, before: int) -> None:
        for samples in (self._samples[stream], self._predicted[stream]):
            for old in [at for at in samples if at < before]:
                del samples[old]

    def _window(self, track: Track, row: int) -> np.ndarray:
        if not track.rows:
            return self._samples[track.stream.name][0]
        if track.hidden:
            samples = np.zeros((len(track.rows), *track.stream.sample), np.float32)
        else:
            samples = np.stack([self._at(track, row + offset) for offset in track.rows])
        return samples[0] if track.stream.modality == "image" else samples

    def _at(self, track: Track, row: int) -> np.ndarray:
        if track.acted and row < 0:
            return np.zeros(track.stream.sample, np.float32)
        name, row = track.stream.name, max(row, 0)
        if row in self._samples[name]:
            return self._samples[name][row]
        if row not in self._predicted[name]:
            raise errors.unseen(name, row)
        return self._predicted[name][row]


def sample(stream: Stream, observation: Mapping[str, Any]) -> np.ndarray:
    """One sample of a stream: frames in 0..1, numbers in raw units, text as bytes."""
    if stream.modality == "language":
        if not isinstance(observation[keys.TASK], str):
            raise errors.misshown(stream.name, f"{keys.TASK} is {observation[keys.TASK]!r}",
                                  "give the instruction as text")  # fmt: skip
        return encode_text(observation[keys.TASK], stream.shape[0])
    if stream.modality in VIDEO:
        return frame(stream, observation)
    numbers = np.asarray(observation[stream.key]).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise errors.misshown(stream.name, f"{stream.key} holds {numbers.tolist()}",
                              "show finite numbers; others spoil every action")  # fmt: skip
    return numbers
