"""Frames to mp4 and back, by PyAV.

Our own videos are H.264 in RGB without loss: a policy is evaluated on exact pixels, so it
trains on exact pixels. At 64 x 64 that costs about 1 kB a row and the fastest preset encodes
10k frames a second; any FFmpeg-based reader decodes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from wmdsl.data import errors

CODEC = "libx264rgb"
PIXEL_FORMAT = "gbrp"
_OPTIONS = {"qp": "0", "preset": "ultrafast", "g": "40"}
PREVIEW_CODEC = "libx264"
_PREVIEW_OPTIONS = {"crf": "20", "preset": "veryfast"}


class VideoWriter:
    """One lossless mp4 at a constant rate."""

    def __init__(self, path: Path, size: tuple[int, int], fps: int, preview: bool = False) -> None:
        """`size` is (height, width); `preview` takes the lossy codec that every player shows."""
        import av

        self._av = av
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream(
            PREVIEW_CODEC if preview else CODEC, rate=Fraction(fps)
        )
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = "yuv420p" if preview else "rgb24"
        self._stream.options = dict(_PREVIEW_OPTIONS if preview else _OPTIONS)
        self._stream.thread_count = 1
        self._time_base = Fraction(1, fps)
        self.frames = 0
        self.bytes = 0

    def append(self, image: np.ndarray) -> None:
        """Add one frame, uint8 [H, W, 3]."""
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
        frame.pts = self.frames
        frame.time_base = self._time_base
        self.frames += 1
        self._mux(frame)

    def close(self) -> None:
        """Write what is still in the encoder and the index."""
        self._mux(None)
        self._container.close()

    def _mux(self, frame: object) -> None:
        for packet in self._stream.encode(frame):
            self.bytes += packet.size
            self._container.mux(packet)


def write_preview(path: Path, images: list[np.ndarray], fps: int) -> None:
    """An mp4 that browsers and players show, from uint8 [H, W, 3] with even sides."""
    writer = VideoWriter(path, images[0].shape[:2], fps, preview=True)
    for image in images:
        writer.append(image)
    writer.close()


def read_frames(
    path: Path, wanted: np.ndarray, fps: float, size: tuple[int, int] | None = None
) -> Iterator[np.ndarray]:
    """Decode the frames with the ascending numbers `wanted`, as uint8 [H, W, 3].

    The number of a frame is its time stamp times `fps`; where the recorder dropped a frame, the
    next one stands for it. `size` (height, width) resizes by area. Raises DataError for a file
    that is missing, broken or too short.
    """
    import av

    pending = iter(wanted.tolist())
    number = next(pending, None)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            resize = _Resizer(size)
            for frame in container.decode(stream):
                while number is not None and round(frame.time * fps) >= number:
                    yield resize(frame)
                    number = next(pending, None)
                if number is None:
                    return
    except FileNotFoundError as error:
        raise errors.missing("a video", path) from error
    except (av.FFmpegError, IndexError) as error:
        raise errors.unreadable("a video", path, error) from error
    if number is not None:
        raise errors.unreadable("a video", path, f"it ends before frame {number}")


def video_rate(path: Path) -> float:
    """Frames per second that the file states."""
    import av

    try:
        with av.open(str(path)) as container:
            return float(container.streams.video[0].average_rate)
    except FileNotFoundError as error:
        raise errors.missing("a video", path) from error
    except (av.FFmpegError, IndexError, TypeError) as error:
        raise errors.unreadable("a video", path, error) from error


def decode_image(data: bytes, where: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A PNG or JPEG file in memory as uint8 [H, W, 3]."""
    import io

    import av

    try:
        with av.open(io.BytesIO(data)) as container:
            return _Resizer(size)(next(container.decode(video=0)))
    except (av.FFmpegError, IndexError, StopIteration) as error:
        raise errors.unreadable("an image", where, error) from error


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image uint8 [h, w, 3] at another (height, width), by area as frames of a data set are."""
    if image.shape[:2] == tuple(size):
        return image
    import av

    return _Resizer(size)(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24"))


class _Resizer:
    """Frame -> uint8 RGB; one converter for a whole video, because making it is the cost."""

    def __init__(self, size: tuple[int, int] | None) -> None:
        from av.video.reformatter import Interpolation, VideoReformatter

        self._reformatter = VideoReformatter()
        self._interpolation = Interpolation.AREA
        self._size = size

    def __call__(self, frame: object) -> np.ndarray:
        height, width = self._size or (frame.height, frame.width)
        converted = self._reformatter.reformat(
            frame, width, height, "rgb24", interpolation=self._interpolation
        )
        return converted.to_ndarray()
