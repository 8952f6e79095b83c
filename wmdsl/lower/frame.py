"""A method under construction: its statements, its local names, and the values it already holds.

Values of a segment come in three forms: `value` (normalised samples [B, n, *shape]), `tokens`
(what a head predicts: patches, numbers or indices [B, T, ...]) and `features` (what a trunk's
projection reads: tokens through the weights of the codec).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from wmdsl.check.codecs import TIME
from wmdsl.check.model import Codec, Segment, Stream, TokenGroup, TokenSource
from wmdsl.lower.codecs import EMBODIMENT, decoded, direct, pooled, pooled_codec, read, tokenised
from wmdsl.lower.context import Context, number, place
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.names import LOCALS, Names, segment_name
from wmdsl.lower.pretrained import earlier, tokens_in
from wmdsl.lower.program import Block, Body, Expression, Name, joined, me, of
from wmdsl.plan.nodes import Placed

BATCH = Name("batch")
GENERATOR = Name("generator")
LIKE = Name("like")
SIZE = Name("size")
EACH = -1  # in place of a layer: the list of the states behind every block
CLEAN = Name("clean")
HiddenKey = tuple[str, int | None, Fraction | None]  # trunk, layer, time of a tap


class Frame:
    """Statements of one method with everything they have computed so far."""

    def __init__(self, context: Context, left_out: tuple[str, ...] = ()):
        """`left_out` are streams that guidance contrasts with: every tensor is twice as long."""
        self.context = context
        self.left_out = left_out
        self.body = Body()
        self._names = Names(LOCALS)
        self._done: set[object] = set()
        self._values: dict[str, Expression] = {}
        self._tokens: dict[tuple[str, str], Expression] = {}
        self._features: dict[tuple[str, str], Expression] = {}
        self._hidden: dict[HiddenKey, list[tuple[Expression, tuple[Placed, ...]]]] = {}
        self.times: dict[str, Expression] = {}  # of the pass that is being written
        self.draws = 1
        self.samples: Expression | None = None  # those [B, 1] that count at all; None: every one

    def local(self, key: object, wanted: str) -> Name:
        """The local variable of a key."""
        return Name(self._names.of(key, wanted))

    def keep(self, key: object, wanted: str, value: Expression, span=None) -> Name:
        """Assign a value to the local variable of a key."""
        name = self.local(key, wanted)
        self.body.assign(name, value, span)
        return name

    def once(self, key: object, wanted: str, value: Expression, span=None) -> Name:
        """As `keep`, but a key that has its value already keeps it."""
        if key not in self._done:
            self._done.add(key)
            return self.keep(key, wanted, value, span)
        return self.local(key, wanted)

    def name_of(self, segment: Segment) -> str:
        return segment_name(self.context.model, segment)

    def read(self, segments: Iterable[Segment], complete: bool) -> None:
        """Take segments from the batch, normalised; `complete` demands the whole window."""
        wanted = {segment.whole for segment in segments}
        for stream in self.context.model.streams.values():
            found = [segment for segment in stream.segments if segment.reference in wanted]
            if found and stream.modality != "learned":
                self._read_stream(stream, found, complete)

    def begin(self) -> None:
        """Names that the rest of the method uses: the batch size, a tensor to be like."""
        self.body.assign(LIKE, Name("next")(of(me, "parameters")()))
        first = next(iter(self._values.values()))
        self.body.assign(SIZE, Name("len")(first))
        many = {len(stream.attributes["embodiments"] or ()) for stream in self._streams()} - {0}
        if len(many) > 1:
            what = "streams have different numbers of embodiments"
            raise Unsupported(what, self._streams()[0].span)
        for count in many:
            self.body.assign(EMBODIMENT, Block("embodiments")(BATCH, SIZE, count, LIKE))

    def _streams(self) -> list[Stream]:
        return list(self.context.model.streams.values())

    def _read_stream(self, stream: Stream, found: list[Segment], complete: bool) -> None:
        name = self.local(("stream", stream.name), stream.name)
        if found[0].name == "whole":
            raw = Block("whole")(BATCH, stream.name, stream.sample, place(stream.span))
            self.body.assign(name, raw)
            self._normalise(stream, name)
            self._leave_out(stream, name, complete)
            self._values[found[0].reference] = name
            return
        last = max(stream.start(segment.name) + segment.length for segment in found)
        first = stream.window if complete else last
        sizes = first, stream.window, stream.sample
        self.body.assign(name, Block("samples")(BATCH, stream.name, *sizes, place(stream.span)))
        self._normalise(stream, name)
        self._leave_out(stream, name, complete)
        self._cut(stream, name, first)

    def _leave_out(self, stream: Stream, name: Name, training: bool) -> None:
        """Training drops a stream now and then; guidance asks with and without it."""
        share = stream.attributes.get("dropout")
        if training and share:
            self.body.assign(name, Block("dropped")(name, number(share), GENERATOR))
        elif self.left_out:
            block = "beside_nothing" if stream.name in self.left_out else "twice"
            self.body.assign(name, Block(block)(name))

    def _normalise(self, stream: Stream, name: Name) -> None:
        if stream.normalise == "unit":
            self.body.assign(name, 2 * name - 1)
        elif stream.normalise != "none":
            mean, scale = of(me, f"{stream.name}_mean"), of(me, f"{stream.name}_scale")
            self.body.assign(name, (name - mean) / scale)
        if by_number(stream):
            if len(stream.sample) != 1:
                raise Unsupported(f"`valid mask` of {stream.name}, no vector,", stream.span)
            self.body.assign(name, Block("without_padding")(BATCH, stream.name, name))

    def _cut(self, stream: Stream, window: Name, length: int) -> None:
        """Cut a window into its segments; a lone one needs no cut."""
        ahead = [part for part in stream.segments if stream.start(part.name) < length]
        if len(ahead) == 1:
            self._values[ahead[0].reference] = window
            return
        names = tuple(self.local(("value", part.reference), self.name_of(part)) for part in ahead)
        self.body.assign(names, of(window, "split")([part.length for part in ahead], dim=1))
        for part, name in zip(ahead, names, strict=True):
            self._values[part.reference] = name

    def raw(self, segment: Segment, noisy: bool = False) -> Expression:
        """A segment in the units of the data set; one that was left `noisy` may lie outside."""
        stream, value = self.context.stream(segment), self.value(segment)
        if stream.normalise == "none":
            return value
        if stream.normalise == "unit":
            return (value + 1) / 2 if noisy else of((value + 1) / 2, "clamp")(0, 1)
        return value * of(me, f"{stream.name}_scale") + of(me, f"{stream.name}_mean")

    def knows(self, segment: Segment) -> bool:
        return segment.reference in self._values or any(
            reference == segment.reference for _, reference in self._tokens
        )

    def predicted(self, group: TokenGroup, tokens: Expression) -> None:
        """A generated segment is known from here on, as tokens of its group's codec."""
        self._tokens[group.codec, group.segment.reference] = tokens

    def encoded(self, segment: Segment, codec: str, value: Expression, label: str) -> Expression:
        """Features of a value of the segment that is not the one the frame knows."""
        return self._encode(self.context.model.codecs[codec], segment, value, label)

    def as_value(self, segment: Segment, codec: str, tokens: Expression) -> Expression:
        """Samples that tokens of a codec stand for."""
        found = self.context.model.codecs[codec]
        clip = earlier(self.context.model, found, segment)
        before = [self.tokens(self._ahead(part, segment), codec) for part in clip]
        return decoded(self.context, segment, found, joined([*before, tokens]))

    def teach(self, codec: Codec, segment: Segment, module: Expression) -> Expression:
        """Features of a known segment through the weights of a teacher."""
        if codec.kind == "pool":
            inner = self.context.model.codecs[pooled_codec(codec)]
            features = self.teach(inner, segment, self.context.owned("codec", inner.name))
            return pooled(self.context, segment, codec, features)
        return read(self.context, segment, codec, module, self.value(segment))

    def value(self, segment: Segment) -> Expression:
        """Normalised samples [B, n, *shape]; predicted tokens are turned back."""
        if segment.reference != segment.whole:
            return self._part(segment)
        if segment.reference not in self._values:
            codec, tokens = next(
                (codec, tokens)
                for (codec, reference), tokens in self._tokens.items()
                if reference == segment.reference
            )
            value = self.as_value(segment, codec, tokens)
            if value is tokens:
                return tokens
            wanted = f"{self.name_of(segment)}_samples"
            self._values[segment.reference] = self.keep(("value", segment.reference), wanted, value)
        return self._values[segment.reference]

    def _part(self, segment: Segment) -> Expression:
        """The samples of a slice."""
        stream = self.context.stream(segment)
        whole = stream.segment(segment.name.partition("[")[0])
        start = stream.start(segment.name) - stream.start(whole.name)
        return self.value(whole)[:, slice(start, start + segment.length)]

    def tokens(self, segment: Segment, codec_name: str) -> Expression:
        """What a head of this codec predicts."""
        key = (codec_name, segment.reference)
        if key not in self._tokens:
            codec, value = self.context.model.codecs[codec_name], self.value(segment)
            clip = earlier(self.context.model, codec, segment)
            if any((codec_name, part.reference) not in self._tokens for part in clip):
                return self._tokens_of_clip([*clip, segment], codec)
            tokens = self._tokenised(segment, codec, value)
            if tokens is not value:
                wanted = self._encoded_name(segment, codec_name)
                tokens = self.keep(("tokens", *key), wanted, tokens, codec.span)
            self._tokens[key] = tokens
        return self._tokens[key]

    def _tokens_of_clip(self, clip: list[Segment], codec: Codec) -> Expression:
        """Tokens of the last of several segments that are encoded together."""
        whole = joined([self.value(self._ahead(part, clip[-1])) for part in clip])
        tokens = tokenised(self.context, clip[-1], codec, whole)
        keys = [(codec.name, part.reference) for part in clip]
        counts = [tokens_in(self.context.model, codec, part) for part in clip]
        names = tuple(
            self.local(("tokens", *key), self._encoded_name(part, codec.name))
            for key, part in zip(keys, clip, strict=True)
        )
        self.body.assign(names, of(tokens, "split")(counts, dim=1), codec.span)
        self._tokens |= dict(zip(keys, names, strict=True))
        return names[-1]

    def _tokenised(self, segment: Segment, codec: Codec, value: Expression) -> Expression:
        """Tokens of a value of the segment, read as the end of its clip."""
        clip = earlier(self.context.model, codec, segment)
        if not clip:
            return tokenised(self.context, segment, codec, value)
        whole = joined([*(self.value(self._ahead(part, segment)) for part in clip), value])
        ahead = sum(tokens_in(self.context.model, codec, part) for part in clip)
        return tokenised(self.context, segment, codec, whole)[:, slice(ahead, None)]

    def _ahead(self, part: Segment, segment: Segment) -> Segment:
        """A segment that stands before another in its clip, and must be known."""
        if not self.knows(part):
            message = f"{segment.reference} cannot be read without {part.reference} before it"
            raise Unsupported(message, segment.span)
        return part

    def features(self, segment: Segment, codec_name: str) -> Expression:
        """What a trunk's projection reads of a known segment."""
        key = (codec_name, segment.reference)
        if key not in self._features:
            codec = self.context.model.codecs[codec_name]
            if direct(codec):
                self._features[key] = self.tokens(segment, codec_name)
            else:
                self._features[key] = self._encode(codec, segment, self.value(segment), "")
        return self._features[key]

    def _encode(self, codec: Codec, segment: Segment, value: Expression, label: str) -> Expression:
        """Features of a value of the segment; `label` tells apart values of one segment."""
        if codec.kind == "pool":
            inner = self.context.model.codecs[pooled_codec(codec)]
            features = self._encode(inner, segment, value, label)
            features = pooled(self.context, segment, codec, features)
        elif direct(codec):
            features = self._tokenised(segment, codec, value)
        else:
            features = self.through(codec, segment, value)
        key = ("features", codec.name, segment.reference, label)
        wanted = self._encoded_name(segment, codec.name)
        wanted = f"{wanted}_{label}" if label else wanted
        return self.keep(key, wanted, self._modulated(codec, features), codec.span)

    def _encoded_name(self, segment: Segment, codec: str) -> str:
        name = self.name_of(segment)
        return codec if codec.startswith(name) else f"{name}_{codec}"

    def through(self, codec: Codec, segment: Segment, value: Expression) -> Expression:
        """A value through the weights of a codec; one without weights changes nothing."""
        if direct(codec):
            return value
        return read(self.context, segment, codec, self.context.owned("codec", codec.name), value)

    def _modulated(self, codec: Codec, features: Expression) -> Expression:
        for condition in self.context.model.conditions.values():
            if condition.codec == codec.name:
                film = self.context.owned("condition", condition.name)
                features = film(features, self.pooled_sources(condition.sources))
        return features

    def pooled_sources(self, sources: tuple[TokenSource, ...]) -> Expression:
        """The mean over each source's tokens, side by side [B, C]."""
        means = [of(self.source(source), "mean")(dim=1) for source in sources]
        return joined(means, axis=-1)

    def source(self, source: TokenSource) -> Expression:
        """Tokens that a coupling reads [B, S, C]."""
        if source.segment is not None:
            if not source.codec:
                raise Unsupported("learned tokens are read through a trunk", source.span)
            if source.codec == TIME:
                return Block("sinusoids")(self.time_of(source.segment))
            return self.drawn(self.features(source.segment, source.codec))
        hidden = self.hidden(source)
        return self.drawn(of(hidden, "detach")() if source.stop else hidden)

    def drawn(self, value: Expression) -> Expression:
        """A value of each sample for each of its noises in the pass that is being written."""
        return value if self.draws == 1 else repeated(value, self.draws)

    def time_of(self, segment: Segment) -> Expression:
        """The noise level of a segment [B, 1]; what nobody generates here is pure noise."""
        still = CLEAN if self.knows(segment) else of(LIKE, "new_ones")(SIZE, 1)
        return self.times.get(segment.reference, still)

    def hold(self, key: HiddenKey, hidden: Expression, placed: tuple[Placed, ...]) -> None:
        """Hidden states of some live groups of a trunk, after a pass over its space."""
        names = {part.group.name for part in placed}
        others = [
            part
            for part in self._hidden.get(key, [])
            if not names & {found.group.name for found in part[1]}
        ]
        self._hidden[key] = [*others, (hidden, placed)]

    def state(self, group: TokenGroup) -> tuple[Expression, tuple[Placed, ...]]:
        """The final hidden states in which a group stands, and all groups they belong to."""
        return next(
            part
            for part in self._hidden[group.trunk, None, None]
            if any(found.group.name == group.name for found in part[1])
        )

    def hidden(self, source: TokenSource) -> Expression:
        """Hidden states of the token groups that a source names."""
        parts = self._hidden[source.trunk, source.layer, source.time]
        wanted = self._wanted(source)
        if len(parts) == 1:
            return sliced(*parts[0], wanted)
        return joined([
            sliced(*part, [group.name])
            for group in self._groups(source.trunk)
            for part in parts
            if group.name in wanted and any(found.group.name == group.name for found in part[1])
        ])  # fmt: skip

    def apart(self, source: TokenSource) -> list[Expression]:
        """The tokens of a source, those of each token group for themselves."""
        if source.segment is not None:
            return [self.source(source)]
        wanted = self._wanted(source)
        return [self.source(replace(source, groups=(name,))) for name in wanted]

    def states(self, source: TokenSource) -> tuple[Expression, bool]:
        """The list of a trunk's states behind its blocks; whether a source reads all of each."""
        ((hidden, placed),) = self._hidden[source.trunk, EACH, source.time]
        return hidden, sliced(hidden, placed, self._wanted(source)) is hidden

    def part(self, source: TokenSource, hidden: Expression) -> Expression:
        """What a source reads of the states behind one block."""
        ((_, placed),) = self._hidden[source.trunk, EACH, source.time]
        found = sliced(hidden, placed, self._wanted(source))
        return of(found, "detach")() if source.stop else found

    def _wanted(self, source: TokenSource) -> Iterable[str]:
        return source.groups or [group.name for group in self._groups(source.trunk)]

    def _groups(self, trunk: str) -> tuple[TokenGroup, ...]:
        return self.context.model.trunks[trunk].groups

    def normal(self, shape: Expression | tuple) -> Expression:
        return Block("normal_twice" if self.left_out else "normal")(shape, LIKE, GENERATOR)


def by_number(stream: Stream) -> bool:
    """Whether a batch may say of every number whether it is padding."""
    return stream.attributes.get("valid") == "mask"


def repeated(value: Expression, draws: int) -> Expression:
    """Each sample of a batch so many times."""
    return of(value, "repeat_interleave")(draws, dim=0)


def sliced(
    tokens: Expression, placed: tuple[Placed, ...], wanted: Iterable[str], axis: int = 1
) -> Expression:
    """The tokens of the wanted groups, in their order in the trunk, along their axis (0 or 1)."""
    names, start, spans = set(wanted), 0, []
    for group in (found.group for found in placed):
        if group.name in names:
            if spans and spans[-1][1] == start:
                spans[-1] = (spans[-1][0], start + group.count)
            else:
                spans.append((start, start + group.count))
        start += group.count
    if spans == [(0, start)]:
        return tokens
    parts = [slice(low, high) for low, high in spans]
    return joined([tokens[:, part] if axis else tokens[part] for part in parts], axis)
