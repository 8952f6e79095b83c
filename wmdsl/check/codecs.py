"""Codecs, and how many tokens of which size one makes of a segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod

from wmdsl.check import errors
from wmdsl.check.model import Codec, Segment, Stream
from wmdsl.check.names import NAMED, Encoded, missing, segments, single
from wmdsl.check.scope import Draft, Mistake, Values
from wmdsl.check.streams import NUMBERS
from wmdsl.check.values import attributes, default
from wmdsl.record import record
from wmdsl.source import Span
from wmdsl.syntax import ast
from wmdsl.vocabulary import CODECS, FORMS, Kind

TIME = "time"  # of a generated segment, as so many sinusoids
FREQUENCIES = 256
UNRUNNABLE_SCOPES = (("vae", "clip"), ("vit", "prefix"), ("vq", "clip"), ("vq", "prefix"))
IMPLICIT = {**dict.fromkeys(NUMBERS, "linear"), "latent": "linear", "token": "embed"}


@record
class Geometry:
    """`count` tokens = frames x per_frame of `features` numbers; `grid` is (rows, columns)."""

    frames: int
    per_frame: int
    grid: tuple[int, int] | None
    features: int

    @property
    def count(self) -> int:
        return self.frames * self.per_frame


def build_codecs(draft: Draft) -> None:
    """Fill `draft.codecs` with the declared codecs."""
    for declaration in draft.of("codec"):
        draft.codecs[declaration.name.text] = draft.attempt(_codec, declaration)
    for codec in tuple(draft.codecs.values()):
        with draft.guard():
            _check_pooled(draft, codec)


def _codec(draft: Draft, declaration: ast.Declaration) -> Codec:
    kind = kind_of(declaration, "codec", CODECS)
    values = attributes(draft, FORMS["codec"], declaration, kind)
    for what in _unrunnable(kind, values):
        draft.cannot_run("WM802", what, declaration.span)
    return Codec(
        name=declaration.name.text,
        kind=kind.name,
        level=values["level"] or kind.level,
        scope=values["scope"],
        frozen=values["frozen"],
        attributes=values.complete(),
        span=declaration.span,
    )


def _unrunnable(kind: Kind, values: Values) -> Iterator[str]:
    """What of a codec has no runtime."""
    if not kind.runs:
        yield f"codecs of kind {kind.name}"
    if (kind.name, values["scope"]) in UNRUNNABLE_SCOPES:
        yield f"a codec of kind {kind.name} whose scope is {values['scope']}"
    if kind.name == "vq" and not values["frozen"]:
        yield "a code book that is trained"
    if kind.name == "tokenizer" and values["vocabulary"] is None:
        yield "a tokeniser whose vocabulary has no size"


def kind_of(declaration: ast.Declaration, form: str, table: dict[str, Kind]) -> Kind:
    """The row of a table that a declaration's head names."""
    clause = declaration.clause("kind") or declaration.clause("by")
    if clause is None:
        raise Mistake(None if declaration.damaged else errors.attributes.head_missing(declaration))
    reference = clause.items[0].terms[0]
    if reference.dotted not in table:
        raise Mistake(errors.attributes.unknown_word(reference.span, reference.dotted, form, table))
    return table[reference.dotted]


def _check_pooled(draft: Draft, codec: Codec | None) -> None:
    """A pool names another codec, which is no pool itself."""
    if codec is None or codec.kind != "pool":
        return
    inner = codec_named(draft, codec.attributes["of"])
    if inner.kind == "pool":
        raise Mistake(errors.codecs.pool_of_pool(codec.attributes["of"].span, inner))


def codec_named(draft: Draft, reference: ast.Reference) -> Codec:
    """A declared codec, or the implicit one of that name."""
    name = reference.dotted
    draft.used.add(name)
    if name in draft.codecs:
        if draft.codecs[name] is None:
            raise Mistake
        return draft.codecs[name]
    if name in (*IMPLICIT.values(), TIME):
        return _implicit(draft, name, reference.span)
    other = draft.spec.find(name, *NAMED)
    raise missing(draft, name, errors.names.unknown_codec(reference, draft.codecs, other))


def _implicit(draft: Draft, name: str, span: Span) -> Codec:
    """The codec without weights of its own that a bare segment goes through."""
    kind = CODECS[name]
    values = {row.name: default(row) for row in FORMS["codec"].attributes_of(name)}
    codec = Codec(name, name, kind.level, "frame", False, values, span)
    draft.codecs[name] = codec
    return codec


def encoded(draft: Draft, expression: ast.Expression) -> tuple[Encoded, ...]:
    """`codec(segment)`, or a bare segment through the default codec of its modality."""
    if isinstance(expression, ast.Call):
        codec = codec_named(draft, expression.function)
        if len(expression.arguments) != 1:
            raise Mistake(errors.names.one_argument(expression))
        inner = single(expression.arguments[0])
        found = segments(draft, inner)
        for segment in found:
            _check_reads(draft, codec, draft.streams[segment.stream], expression)
            draft.mark_read(segment)
        return tuple(Encoded(segment, codec) for segment in found)
    return tuple(_default(draft, segment, expression) for segment in segments(draft, expression))


def _default(draft: Draft, segment: Segment, expression: ast.Expression) -> Encoded:
    stream = draft.streams[segment.stream]
    draft.mark_read(segment)
    if stream.modality == "learned":
        return Encoded(segment, None)
    name = IMPLICIT.get(stream.modality)
    if name is None or (name == "linear" and len(stream.shape) != 1):
        fitting = [codec for codec in draft.codecs.values() if codec and _reads(codec, stream)]
        kinds = [kind.name for kind in CODECS.values() if stream.modality in kind.reads]
        raise Mistake(errors.codecs.codec_needed(expression.span, stream, fitting, kinds))
    draft.used.add(name)
    codec = draft.codecs[name] if name in draft.codecs else _implicit(draft, name, stream.span)
    if codec is None:
        raise Mistake
    return Encoded(segment, codec)


def _reads(codec: Codec, stream: Stream) -> bool:
    reads = CODECS[codec.kind].reads
    return not reads or stream.modality in reads


def _check_reads(draft: Draft, codec: Codec, stream: Stream, expression: ast.Call) -> None:
    if codec.kind == "pool":
        codec = codec_named(draft, codec.attributes["of"])
    if not _reads(codec, stream):
        fitting = [kind.name for kind in CODECS.values() if stream.modality in kind.reads]
        raise Mistake(errors.codecs.codec_cannot_read(expression.span, codec, stream, fitting))


def geometry(draft: Draft, read: Encoded, span: Span) -> Geometry:
    """Tokens of a segment through its codec; Mistake at `span` where the sizes do not fit."""
    stream = draft.streams[read.segment.stream]
    if read.codec is None:
        return Geometry(1, stream.shape[0], None, 0)
    codec = read.codec
    if codec.kind == "pool":
        inner = codec_named(draft, codec.attributes["of"])
        whole = geometry(draft, Encoded(read.segment, inner), span)
        return Geometry(whole.frames, codec.attributes["tokens"], None, whole.features)
    return _side_by_side(stream, _GEOMETRY[codec.kind](stream, read.segment, codec, span))


def _side_by_side(stream: Stream, one: Geometry) -> Geometry:
    """What a codec makes of all views: more tokens of a frame, or more features of a token."""
    views = len(stream.views)
    match stream.apart:
        case "tokens":
            return replace(one, per_frame=views * one.per_frame, grid=None)
        case "channels":
            return replace(one, features=views * one.features)
    return one


def _patch(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    size = codec.attributes["size"]
    channels, height, width = _frame(stream, codec, span)
    grid = _cells((height, width), size, stream, codec, span)
    return Geometry(segment.length, prod(grid), grid, channels * prod(size))


def _frame(stream: Stream, codec: Codec, span: Span) -> tuple[int, int, int]:
    """Channels, height and width of one sample."""
    if len(stream.shape) == 2:
        return (1, *stream.shape)
    if len(stream.shape) != 3:
        raise Mistake(errors.shapes.codec_needs_frame(span, codec, stream))
    return stream.shape


def _cells(
    size: tuple[int, int], cell: tuple[int, ...], stream: Stream, codec: Codec, span: Span
) -> tuple[int, int]:
    """Rows and columns of cells that tile a frame exactly."""
    if size[0] % cell[0] or size[1] % cell[1]:
        raise Mistake(errors.shapes.frame_not_divided(span, stream, codec, size, cell))
    return size[0] // cell[0], size[1] // cell[1]


def conv_strides(codec: Codec) -> tuple[int, ...]:
    """The stride of each stage of a conv codec."""
    strides, channels = codec.attributes["strides"], codec.attributes["channels"]
    return strides * len(channels) if len(strides) == 1 else strides


def conv_kernel(stride: int) -> int:
    return 3 if stride < 3 else 2 * stride


def _conv(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    channels = codec.attributes["channels"]
    _, height, width = _frame(stream, codec, span)
    strides = conv_strides(codec)
    if len(strides) != len(channels):
        raise Mistake(errors.shapes.strides_for_channels(span, codec, len(strides), len(channels)))
    shrink = prod(strides)
    grid = _cells((height, width), (shrink, shrink), stream, codec, span)
    if codec.attributes["readout"] == "keypoints":
        return Geometry(segment.length, codec.attributes["tokens"], None, channels[-1])
    return Geometry(segment.length, prod(grid), grid, channels[-1])


def _vector(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    if len(stream.shape) != 1:
        raise Mistake(errors.shapes.codec_needs_vector(span, codec, stream))
    return Geometry(segment.length, 1, None, stream.shape[0])


def _bins(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    markers = codec.attributes.get("markers", 0)
    return Geometry(segment.length, prod(stream.shape) + markers, None, 1)


def _bytes(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    return Geometry(1, codec.attributes["tokens"], None, codec.attributes["width"])


def _chunk(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    return Geometry(1, codec.attributes["tokens"], None, 1)


def _codes(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    scales = codec.attributes["scales"]
    per_frame = sum(side * side for side in scales) if scales else codec.attributes["tokens"]
    return Geometry(segment.length, per_frame, None, 1)


def _time(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    if segment.observed:
        raise Mistake(errors.training.time_of_observed(span, segment))
    return Geometry(1, 1, None, FREQUENCIES)


def _latent_frame(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    channels, height, width = codec.attributes["tile"]
    patch = codec.attributes["patch"]
    grid = _cells((height, width), patch, stream, codec, span)
    return Geometry(1, prod(grid), grid, channels * prod(patch))


def _hub(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    """A pretrained encoder: a grid of latent cells, grouped into patches in time and space."""
    channels = _channels(codec, span)
    frames = _latent_frames(segment, codec, span)
    if codec.attributes["tokens"]:
        return Geometry(frames, codec.attributes["tokens"], None, channels)
    _, height, width = _frame(stream, codec, span)
    _, *cell = codec.attributes["compress"]
    deep, *patch = codec.attributes["patch"]
    latent = _cells((height, width), cell, stream, codec, span)
    grid = _cells(latent, patch, stream, codec, span)
    return Geometry(frames, prod(grid), grid, channels * deep * prod(patch))


def _channels(codec: Codec, span: Span) -> int:
    if codec.attributes["channels"] is None:
        raise Mistake(errors.shapes.channels_needed(codec, span))
    return codec.attributes["channels"]


def _latent_frames(segment: Segment, codec: Codec, span: Span) -> int:
    """Latent frames of a segment; a causal encoder keeps a first frame of its own."""
    deep = codec.attributes["compress"][0] * codec.attributes["patch"][0]
    for frames, own in ((segment.length, 0), (segment.length - 1, 1)):
        if frames % deep == 0:
            return frames // deep + own
    raise Mistake(errors.shapes.frames_not_divided(span, segment, codec, deep))


def _text(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    return Geometry(1, codec.attributes["tokens"] or stream.shape[0], None, _channels(codec, span))


def _external(stream: Stream, segment: Segment, codec: Codec, span: Span) -> Geometry:
    return Geometry(segment.length, codec.attributes["tokens"], None, codec.attributes["width"])


_GEOMETRY: dict[str, Callable[[Stream, Segment, Codec, Span], Geometry]] = {
    "patch": _patch,
    "conv": _conv,
    "linear": _vector,
    "mlp": _vector,
    "bytes": _bytes,
    "bins": _bins,
    "embed": _bins,
    "fast": _chunk,
    "tokenizer": _chunk,
    "vq": _codes,
    "latent_frame": _latent_frame,
    "vae": _hub,
    "vit": _hub,
    "text_encoder": _text,
    "external": _external,
    TIME: _time,
}


def level_of(draft: Draft, read: Encoded) -> str:
    """The level of what a codec puts out."""
    stream = draft.streams[read.segment.stream]
    return (read.codec.level if read.codec else None) or stream.level


def tokens_of(codec: Codec | None) -> str:
    """What the vocabulary says of a codec's tokens: `data`, `index`, or "" for features."""
    return CODECS[codec.kind].tokens if codec else ""
