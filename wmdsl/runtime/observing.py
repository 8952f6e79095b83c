"""Images of an environment as frames of a stream, exactly as training cut them from a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from wmdsl.check.model import Model, Stream
from wmdsl.data.video import resized
from wmdsl.data.views import Tile, assembled
from wmdsl.runtime import errors
from wmdsl.runtime.binding import VIDEO


def tiles(stream: Stream) -> tuple[Tile, ...]:
    """The cameras of a stream of frames with their places in it."""
    whole = Tile(stream.key, (0, 0, *stream.shape[-2:]))
    return tuple(Tile(view.key, view.place) for view in stream.views) or (whole,)


def frame(stream: Stream, images: Mapping[str, np.ndarray]) -> np.ndarray:
    """One sample of a stream, float32 in 0..1, from images uint8 [H, W, 3] by key; RunError for
    another type or shape, as for frames in 0..1, which would be taken for black ones."""
    for tile in tiles(stream):
        image = images[tile.key]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise errors.misshown(stream.name, f"{tile.key} is {image.dtype} {list(image.shape)}",
                                  "show frames as uint8 [H, W, 3] in 0..255")  # fmt: skip
    cut = [_pixels(resized(images[tile.key], tile.size)) for tile in tiles(stream)]
    if not stream.views:
        return cut[0]
    frames = [torch.from_numpy(one)[None, None] for one in cut]
    return assembled(frames, tiles(stream), stream.shape, bool(stream.apart))[0, 0].numpy()


def _pixels(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / 255


def image_size(model: Model) -> int:
    """The side at which images are rendered: that of the largest one that a stream shows."""
    shown: Sequence[Stream] = [s for s in model.streams.values() if s.modality in VIDEO]
    return max((side for s in shown for tile in tiles(s) for side in tile.size), default=64)
