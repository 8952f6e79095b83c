"""What codecs make of values, and what their tokens stand for."""

from __future__ import annotations

from wmdsl.check.codecs import TIME
from wmdsl.check.model import Codec, Segment
from wmdsl.lower.context import Context, number
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.pretrained import earlier, groups_in
from wmdsl.lower.program import Block, Expression, Name, of

EMBODIMENT = Name("embodiment")
INDEXED = ("bins", "embed", "tokenizer", "vq")
FRAMED = ("patch", "conv", "vae", "vit", "vq")
DIRECT = ("patch", "linear", "vae", "latent_frame", TIME, *INDEXED)


def direct(codec: Codec) -> bool:
    """Whether a trunk reads what a head of this codec predicts, and no other features."""
    return codec.kind in DIRECT


def embodied(context: Context, segment: Segment | None) -> tuple[Expression, ...]:
    """What chooses among the projections of a stream with embodiments; () of any other."""
    return (EMBODIMENT,) if segment and context.stream(segment).attributes["embodiments"] else ()


def framed(segment: Segment, codec: Codec, value: Expression) -> Expression:
    """A still image as one frame, where the codec reads frames."""
    if codec.kind in FRAMED and segment.name == "whole":
        return value[:, None]
    return value


def read(
    context: Context, segment: Segment, codec: Codec, module: Expression, value: Expression
) -> Expression:
    """Features of a value through the weights of a codec; views that are apart one by one."""
    stream = context.stream(segment)
    if not stream.apart:
        return _read(context, segment, codec, module, value)
    features = _read(context, segment, codec, module, Block("each_view")(value))
    counts = len(stream.views), groups_in(codec, segment)
    return Block(f"views_as_{stream.apart}")(features, *counts)


def _read(
    context: Context, segment: Segment, codec: Codec, module: Expression, value: Expression
) -> Expression:
    if len(context.stream(segment).shape) == 2:
        raise Unsupported(f"a {codec.kind} codec reads frames in colour", codec.span)
    features = module(framed(segment, codec, value), *embodied(context, segment))
    if codec.kind != "vit":
        return features
    if codec.attributes["tokens"]:
        return Block("shared_out")(features, codec.attributes["tokens"])
    return _cells(codec, features)


def _cells(codec: Codec, maps: Expression) -> Expression:
    """Maps [B, T, C, rows, columns] -> one token for each patch of them."""
    deep, *size = codec.attributes["patch"]
    if deep > 1:
        maps = of(of(maps, "unflatten")(1, (-1, deep)), "flatten")(2, 3)
    return Block("patchify")(maps, *size)


def _maps(context: Context, codec: Codec, segment: Segment, tokens: Expression) -> Expression:
    """Tokens -> maps [B, T, C, rows, columns], of the clip that ends with the segment."""
    deep, *size = codec.attributes["patch"]
    _, *cell = codec.attributes["compress"]
    parts = [*earlier(context.model, codec, segment), segment]
    groups = sum(groups_in(codec, part) for part in parts)
    rows, columns = (
        side // each
        for side, each in zip(context.stream(segment).shape[-2:], cell, strict=True)
    )
    channels = codec.attributes["channels"] * deep
    maps = Block("unpatchify")(tokens, (groups, channels, rows, columns), *size)
    if deep > 1:
        maps = of(of(maps, "unflatten")(2, (deep, -1)), "flatten")(1, 2)
    return maps


def tokenised(context: Context, segment: Segment, codec: Codec, value: Expression) -> Expression:
    """Samples -> tokens that a head predicts."""
    if context.stream(segment).apart:
        raise Unsupported(f"a {codec.kind} codec reads one view", codec.span)
    value = framed(segment, codec, value)
    if codec.kind == "patch":
        flat = len(context.stream(segment).shape) == 2
        pixels = value[:, :, None] if flat else value
        return Block("patchify")(pixels, *codec.attributes["size"])
    if codec.kind == "vae":
        return _cells(codec, of(context.owned("codec", codec.name), "encode")(value))
    if codec.kind == "vq":
        return of(context.owned("codec", codec.name), "encode")(value)
    if codec.kind == "latent_frame":
        frame = Block("to_frame")(value, codec.attributes["tile"])
        return Block("patchify")(frame, *codec.attributes["patch"])
    if codec.kind == "tokenizer":
        return context.owned("codec", codec.name)(value)
    if codec.kind == "bins":
        index = Block("to_bins")(value, *_edges(codec))
        return _marked(codec, context.stream(segment).shape[0], index)
    if codec.kind == "embed":
        return of(value, "flatten")(1)
    return value


def decoded(context: Context, segment: Segment, codec: Codec, tokens: Expression) -> Expression:
    """Tokens that a head predicted, behind those of its clip before -> samples."""
    shape = context.stream(segment).shape
    if codec.kind == "patch":
        pixels = (1, *shape) if len(shape) == 2 else shape
        frames = Block("unpatchify")(tokens, (segment.length, *pixels), *codec.attributes["size"])
        frames = frames[:, :, 0] if len(shape) == 2 else frames
        return frames[:, 0] if segment.name == "whole" else frames
    if codec.kind == "vae":
        maps = _maps(context, codec, segment, tokens)
        frames = of(context.owned("codec", codec.name), "decode")(maps, segment.length)
        return frames[:, 0] if segment.name == "whole" else frames
    if codec.kind == "vq":
        frames = of(context.owned("codec", codec.name), "decode")(tokens)
        return frames[:, 0] if segment.name == "whole" else frames
    if codec.kind == "latent_frame":
        tile, patch = codec.attributes["tile"], codec.attributes["patch"]
        frame = Block("unpatchify")(tokens, (1, *tile), *patch)
        return Block("from_frame")(frame, segment.length, shape[0])
    if codec.kind == "tokenizer":
        message = f"the tokens of {segment.reference} stand for no text until a tokeniser is loaded"
        raise Unsupported(message, codec.span)
    if codec.kind == "bins":
        return Block("from_bins")(_unmarked(codec, shape[0], tokens), shape[0], *_edges(codec))
    if codec.kind == "embed":
        return of(tokens, "unflatten")(1, (segment.length, *shape))
    return tokens


def _marked(codec: Codec, size: int, index: Expression) -> Expression:
    """Indices with the markers around each step of `size` numbers."""
    markers = codec.attributes["markers"]
    return Block("marked")(index, size, codec.attributes["bins"], markers) if markers else index


def _unmarked(codec: Codec, size: int, index: Expression) -> Expression:
    markers = codec.attributes["markers"]
    return Block("unmarked")(index, size, codec.attributes["bins"], markers) if markers else index


def _edges(codec: Codec) -> tuple[Expression | int, ...]:
    attributes = codec.attributes
    return attributes["bins"], number(attributes["low"]), number(attributes["high"])


def pooled_codec(codec: Codec) -> str:
    of_what = codec.attributes["of"]
    return of_what if isinstance(of_what, str) else of_what.dotted


def pooled(context: Context, segment: Segment, codec: Codec, features: Expression) -> Expression:
    """The mean over runs of tokens, so many per frame; fewer tokens than that are repeated."""
    inner, wanted = context.model.codecs[pooled_codec(codec)], codec.attributes["tokens"]
    given = inner.attributes.get("tokens")
    if given and given < wanted:
        return of(features, "repeat_interleave")(wanted // given, dim=1)
    count = groups_in(inner, segment) * wanted
    return of(of(features, "unflatten")(1, (count, -1)), "mean")(dim=2)
