"""Streams: shapes, rates and the samples of each segment."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from wmdsl.check import errors
from wmdsl.check.model import Segment, Stream
from wmdsl.check.scope import Draft, Mistake, Values
from wmdsl.check.values import Length, arguments, attributes, rate
from wmdsl.check.views import build_views
from wmdsl.source import Span
from wmdsl.syntax import ast
from wmdsl.vocabulary import FORMS, MODALITIES, Kind

TIMELESS = ("language", "image", "learned")
FRAMES = ("video", "image", "depth", "flow", "tactile")
NUMBERS = ("action", "proprio", "vector", "value")


def build_streams(draft: Draft) -> None:
    """Fill `draft.streams`; rates that do not fit together are reported once each."""
    for declaration in draft.of("stream"):
        draft.streams[declaration.name.text] = draft.attempt(_stream, declaration)
    _relate_rates(draft)


def _stream(draft: Draft, declaration: ast.Declaration) -> Stream:
    values = attributes(draft, FORMS["stream"], declaration)
    with draft.guard():
        values["rate_hz"] = _rate(declaration)
    kind, shape = _type(declaration)
    if not kind.runs:
        draft.cannot_run("WM801", f"streams of {kind.name}", declaration.span)
    hertz = values["rate_hz"]
    if kind.name not in TIMELESS and hertz is None:
        draft.cannot_run("WM810", f"stream `{declaration.name.text}` without a rate",
                         declaration.name.span)  # fmt: skip
    stream = Stream(
        name=declaration.name.text,
        modality=kind.name,
        shape=shape,
        rate_hz=hertz,
        level=values["level"] or kind.level,
        segments=_segments(kind.name, hertz, values, declaration),
        key=_key(declaration, kind.name, values),
        views=build_views(draft, declaration, values, shape),
        normalise=values["normalise"] or _normalise(kind.name),
        attributes={**values.complete(), "sizes": _sizes(declaration)},
        span=declaration.span,
        places=_places(declaration),
    )
    _check_parts(stream, declaration)
    return stream


def _key(declaration: ast.Declaration, modality: str, values: Values) -> str:
    """The one column of a stream without views; its own name where none is written."""
    keys = values["key"] or (declaration.name.text,)
    if modality == "learned" or values["views"]:
        return ""
    if len(keys) > 1:
        raise Mistake(errors.shapes.keys_for_views(declaration, len(keys), 1))
    return keys[0]


def _places(declaration: ast.Declaration) -> dict[str, Span]:
    """Where the parts of a stream that a data set must agree with are written."""
    name, key = declaration.name.span, declaration.attribute("key")
    type_, rate_ = declaration.clause("type"), declaration.clause("at")
    return {
        "name": name,
        "type": type_.span if type_ else name,
        "rate": rate_.span if rate_ else name,
        "key": key.span if key else name,
    }


def _type(declaration: ast.Declaration) -> tuple[Kind, tuple[int, ...]]:
    """The modality and the shape of one sample."""
    clause = declaration.clause("type")
    if clause is None:
        raise Mistake(None if declaration.damaged else errors.attributes.head_missing(declaration))
    written = clause.items[0].terms[0]
    name = written.function
    if name.dotted not in MODALITIES:
        raise Mistake(errors.attributes.unknown_word(name.span, name.dotted, "stream", MODALITIES))
    kind = MODALITIES[name.dotted]
    return kind, _shape(kind, arguments(kind, written.arguments, written.span), written)


def _shape(kind: Kind, sizes: tuple[int | None, ...], written: ast.Call) -> tuple[int, ...]:
    if kind.name == "token":
        return sizes[1:]
    given = tuple(size for size in sizes if size is not None)
    if kind.name == "latent" and len(given) == 2:
        raise Mistake(errors.attributes.wrong_arguments(kind, 2, written.span))
    return given if kind.arguments else (1,)


def _sizes(declaration: ast.Declaration) -> tuple[int | None, ...]:
    """What stands in the brackets: (vocabulary, count) of tokens, the shape otherwise."""
    written = declaration.clause("type").items[0].terms[0]
    return arguments(MODALITIES[written.function.dotted], written.arguments, written.span)


def _rate(declaration: ast.Declaration) -> Fraction | None:
    clause = declaration.clause("at")
    return rate(clause.items[0].terms[0]) if clause else None


def _normalise(modality: str) -> str:
    if modality == "depth":
        return "none"  # metres
    if modality in FRAMES:
        return "unit"
    return "zscore" if modality in NUMBERS else "none"


def samples(length: Length, hertz: Fraction | None) -> int:
    """A length in samples of a stream; seconds must be a whole number of them."""
    if length.unit != "s":
        return int(length.value)
    if hertz is None:
        raise Mistake(errors.rates.rate_needed(length.span))
    count = length.value * hertz
    if count.denominator != 1:
        raise Mistake(errors.rates.seconds_not_whole(length.span, length.value, hertz))
    return int(count)


def _segments(
    modality: str, hertz: Fraction | None, values: Values, declaration: ast.Declaration
) -> tuple[Segment, ...]:
    """Past, now and future with their offsets in samples; empty ones vanish."""
    name = declaration.name
    lengths = {part: values[part] for part in ("past", "now", "future")}
    if modality in TIMELESS:
        written = next((part for part, length in lengths.items() if length), None)
        if written:
            raise Mistake(errors.rates.timeless(modality, declaration.attribute(written)))
        return (Segment(name.text, "whole", (), name.span),)
    if not any(lengths.values()):
        raise Mistake(None if declaration.damaged else errors.rates.no_samples(declaration))
    past, now, future = (samples(length, hertz) if length else 0 for length in lengths.values())
    every = samples(values["every"], hertz) if values["every"] else 1
    if every < 1:
        raise Mistake(errors.rates.stride_zero(values["every"].span))
    first = every * (modality != "action")
    if values["offset"]:
        first = samples(values["offset"], hertz)
    starts = {"past": -(max(now, 1) - 1) - past if now else -past, "now": -(now - 1)}
    offsets = {
        "past": tuple(every * (starts["past"] + at) for at in range(past)),
        "now": tuple(every * (starts["now"] + at) for at in range(now)),
        "future": tuple(first + every * at for at in range(future)),
    }
    return tuple(
        Segment(name.text, part, found, declaration.attribute(part).span)
        for part, found in offsets.items()
        if found
    )


def _check_parts(stream: Stream, declaration: ast.Declaration) -> None:
    """Named parts of a vector must add up to its size."""
    parts = stream.attributes["parts"]
    if parts is None:
        return
    total = sum(_part(item) for item in parts)
    if total != stream.shape[0]:
        attribute = declaration.attribute("parts")
        clause = declaration.clause("type")
        raise Mistake(
            errors.shapes.parts_differ(attribute.span, total, clause.span, stream.shape[0])
        )


def _part(item: ast.Item) -> int:
    """Numbers in a part: the first plain number, `xyz 3 m`; a bare name counts one."""
    counts = [term for term in item.terms if isinstance(term, ast.Number)]
    if not isinstance(item.terms[0], ast.Reference) or len(counts) > 1:
        raise Mistake(errors.shapes.bad_part(item))
    return int(counts[0].value) if counts else 1


def _relate_rates(draft: Draft) -> None:
    """Every two rates must have an integer ratio, unless the slower one is resampled."""
    fitting: list[Stream] = []
    for stream in draft.streams.values():
        if stream is None or stream.rate_hz is None or stream.attributes["resample"]:
            continue
        against = next((other for other in fitting if not _related(stream, other)), None)
        if against is None:
            fitting.append(stream)
            continue
        nearest = _nearest_rates(stream.rate_hz, [other.rate_hz for other in fitting])
        draft.report(errors.rates.rates_unrelated(stream, against, nearest))


def _related(left: Stream, right: Stream) -> bool:
    return _integer_ratio(left.rate_hz, right.rate_hz)


def _integer_ratio(left: Fraction, right: Fraction) -> bool:
    return 1 in ((left / right).denominator, (right / left).denominator)


def _nearest_rates(wanted: Fraction, others: list[Fraction]) -> tuple[Fraction, ...]:
    """The workable rates next below and next above the one that was written."""
    factors = range(1, 65)
    found = {other * k for other in others for k in factors}
    found |= {other / k for other in others for k in factors}
    workable = sorted(r for r in found if all(_integer_ratio(r, other) for other in others))
    below = [rate for rate in workable if rate < wanted][-1:]
    above = [rate for rate in workable if rate > wanted][:1]
    return (*below, *above)


def spacing(segment: Segment) -> int:
    """Samples between two neighbours of a segment; from now to the first where it has but one."""
    gaps = {right - left for left, right in pairwise(segment.offsets)}
    return gaps.pop() if gaps else abs(segment.offsets[0])
