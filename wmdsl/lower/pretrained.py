"""Modules of the codecs that stand for pretrained ones, and the sizes that no spec gives.

What the spec says of a codec is kept: channels, compression, patch, tokens, scope.  What it leaves
open follows one rule: a `vae` has a stage for each prime factor of its compression, 16 channels
wide at first and twice as wide at each next one up to 64; a `vit` and a `text_encoder` are as wide
as their channels and have two blocks with heads of 32, one head where 32 does not divide the width;
a `vq` has codes of 16 numbers behind the stages of a vae, on the most nearly square grid of as many
cells as it has tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from wmdsl.check.model import Codec, Model, Segment, Stream
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.program import Block, Expression

FIRST_WIDTH, LAST_WIDTH = 16, 64
BLOCKS = 2
HEAD = 32
CODE_CHANNELS = 16
REACH = 3  # frames of a causal convolution


def group_of(codec: Codec) -> int:
    """Frames that become one group of tokens."""
    return codec.attributes["compress"][0] * codec.attributes["patch"][0]


def groups_in(codec: Codec, segment: Segment) -> int:
    """Groups of tokens of a segment; a first group may be filled up by its first frame."""
    if codec.kind == "latent_frame":
        return 1
    if codec.kind not in ("vae", "vit"):
        return segment.length
    return -(-segment.length // group_of(codec))


def tokens_in(model: Model, codec: Codec, segment: Segment) -> int:
    """Tokens that a vae makes of a segment."""
    sides = model.streams[segment.stream].shape[-2:]
    _, *cell = codec.attributes["compress"]
    _, *patch = codec.attributes["patch"]
    grid = (side // (c * p) for side, c, p in zip(sides, cell, patch, strict=True))
    return groups_in(codec, segment) * prod(grid)


def heads_of(width: int) -> int:
    return 1 if width % HEAD else width // HEAD


def autoencoder(codec: Codec, stream: Stream) -> Expression:
    """`Autoencoder(...)` of a vae."""
    strides = tuple(_strides(codec.attributes["compress"]))
    return Block("Autoencoder")(
        _channels(stream),
        codec.attributes["channels"],
        _widths(len(strides)),
        strides,
        reach=REACH if codec.scope == "prefix" else 1,
        group=group_of(codec),
    )


def _widths(stages: int) -> tuple[int, ...]:
    return tuple(min(FIRST_WIDTH << stage, LAST_WIDTH) for stage in range(stages))


def _channels(stream: Stream) -> int:
    return stream.shape[0] if len(stream.shape) == 3 else 1


def _strides(compress: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    """Strides of the stages: the prime factors of each side; time shrinks in the last stages."""
    time, rows, columns = (_factors(side) for side in compress)
    stages = max(len(time), len(rows), len(columns), 1)
    time = [1] * (stages - len(time)) + time
    rows, columns = (side + [1] * (stages - len(side)) for side in (rows, columns))
    yield from zip(time, rows, columns, strict=True)


def _factors(number: int) -> list[int]:
    """Prime factors, ascending."""
    found, factor = [], 2
    while number > 1:
        while number % factor == 0:
            found.append(factor)
            number //= factor
        factor += 1
    return found


def quantizer(codec: Codec, stream: Stream) -> Expression:
    """`Quantizer(...)` of a vq."""
    if len(stream.shape) < 2:
        raise Unsupported(f"codec {codec.name} cannot find codes for numbers yet", codec.span)
    rows, columns = stream.shape[-2:]
    grid = _grid(codec.attributes["tokens"], rows, columns)
    shrink = _shrink((rows, columns), grid)
    strides = tuple(_strides((1, shrink, shrink)))
    return Block("Quantizer")(
        _channels(stream),
        CODE_CHANNELS,
        _widths(len(strides)),
        strides,
        codec.attributes["codes"],
        latent=(rows // shrink, columns // shrink),
        grid=grid,
    )


def _grid(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of so many cells, each as nearly square as can be; rather wide than high."""
    pairs = [(rows, tokens // rows) for rows in range(1, tokens + 1) if tokens % rows == 0]
    return min(pairs, key=lambda pair: abs(pair[0] * width - pair[1] * height))


def _shrink(size: tuple[int, int], grid: tuple[int, int]) -> int:
    """The largest power of two by which both sides shrink and still hold the grid."""
    shrink = 1
    while all(
        side % (2 * shrink) == 0 and side // (2 * shrink) >= cells
        for side, cells in zip(size, grid, strict=True)
    ):
        shrink *= 2
    return shrink


def frame_encoder(codec: Codec, stream: Stream) -> Expression:
    """`FrameEncoder(...)` of a vit."""
    deep, *cell = codec.attributes["compress"]
    if codec.attributes["tokens"]:
        deep = group_of(codec)
    rows, columns = (side // size for side, size in zip(stream.shape[-2:], cell, strict=True))
    longest = max(groups_in(codec, segment) for segment in stream.segments)
    width = codec.attributes["channels"]
    return Block("FrameEncoder")(
        _channels(stream),
        width,
        (deep, *cell),
        (rows, columns),
        groups=longest * (group_of(codec) // deep) if codec.scope == "clip" else 1,
        layers=BLOCKS,
        heads=heads_of(width),
    )


def text_encoder(codec: Codec, stream: Stream) -> Expression:
    """`BytesEncoder(...)` of a text encoder."""
    width = codec.attributes["channels"]
    return Block("BytesEncoder")(
        stream.shape[0],
        width,
        layers=BLOCKS,
        heads=heads_of(width),
        tokens=codec.attributes["tokens"] or stream.shape[0],
    )


def tokenizer(codec: Codec, stream: Stream) -> Expression:
    """`HashTokenizer(...)` of a tokenizer."""
    return Block("HashTokenizer")(codec.attributes["tokens"], codec.attributes["vocabulary"])


def earlier(model: Model, codec: Codec, segment: Segment) -> list[Segment]:
    """The segments of a stream that a causal codec reads as one clip with this one, before it.

    A segment of full groups goes on where the one before it ends; any other starts a clip.
    """
    stream = model.streams[segment.stream]
    if codec.kind != "vae" or codec.scope != "prefix" or segment.length % group_of(codec):
        return []
    at = [part.reference for part in stream.segments].index(segment.whole)
    if not at or not _adjoins(stream.segments[at - 1], segment):
        return []
    before = stream.segments[at - 1]
    return [*earlier(model, codec, before), before]


def _adjoins(before: Segment, after: Segment) -> bool:
    """Whether one segment goes on at the stride of the other, without a gap."""
    steps = {b - a for part in (before, after) for a, b in _pairs(part.offsets)}
    steps.add(after.offsets[0] - before.offsets[-1])
    return len(steps) == 1


def _pairs(offsets: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    return zip(offsets, offsets[1:], strict=False)
