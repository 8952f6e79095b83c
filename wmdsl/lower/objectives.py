"""How each objective trains and generates: the tokens that go in, the error, the step.

Noise is added to tokens: a linear codec commutes with it, and a head predicts tokens.
"""

from __future__ import annotations

from fractions import Fraction

from wmdsl.check.model import CallValue, Generate, Segment, Stream, TokenGroup
from wmdsl.lower.changes import added
from wmdsl.lower.context import Context, number
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import GENERATOR, LIKE, SIZE, Frame, by_number, repeated
from wmdsl.lower.inputs import Inputs
from wmdsl.lower.passes import PassWriter
from wmdsl.lower.pretrained import groups_in
from wmdsl.lower.program import Binary, Block, Expression, Name, of, torch
from wmdsl.plan.parameters import vocabulary

NOISY = ("flow", "diffusion", "edm")
SYMBOLIC = ("autoregressive", "masked")
TARGETS = {"eps": "noise", "x0": "clean", "v": "velocity_of"}
DATA = ("data", "change")  # of flow: what is known of a head's output is the clean end


def groups_of(context: Context, generate: Generate, segment: Segment) -> list[TokenGroup]:
    """The token groups that predict a segment."""
    found = [context.model.trunks[trunk].group(name) for trunk, name in generate.groups]
    return [group for group in found if group.segment.reference == segment.reference]


def law(call: CallValue, shape: tuple) -> Expression:
    """A draw of the training time."""
    if call.name == "mix":
        draws = [law(part, shape) for part in call.arguments[::2]]
        shares = [number(share) for share in call.arguments[1::2]]
        return Block("mix")(draws, shares, GENERATOR)
    arguments = [number(argument) for argument in call.arguments]
    if call.name == "fixed":
        return Block("fixed")(shape, *arguments, LIKE)
    if call.name == "uniform" and not arguments:
        arguments = [number(0), number(1)]
    return Block(call.name)(shape, *arguments, LIKE, GENERATOR)


def shifted(generate: Generate, time: Expression) -> Expression:
    """The time moved towards noise where the spec says so; levels of EDM are multiplied."""
    if generate.objective == "edm" and generate.shift != 1:
        return number(generate.shift) * time
    return time if generate.shift == 1 else Block("shifted")(time, number(generate.shift))


def deviation(generate: Generate) -> Expression:
    """That of the data, as EDM takes it."""
    return number(generate.attributes["deviation"])


def levels_of(generate: Generate) -> tuple[Expression, Expression]:
    """The lowest and the highest noise level that sampling by EDM walks through."""
    low, high = generate.attributes["low"], generate.attributes["high"]
    return number(generate.shift * low), number(generate.shift * high)


def tokens_read(generate: Generate, clean: Expression) -> Expression:
    """Clean tokens of a generated segment as a trunk reads them at time 0."""
    return clean / deviation(generate) if generate.objective == "edm" else clean


def point(generate: Generate, clean: Expression, noise: Expression, at: Expression) -> Expression:
    """What tokens are between data (time 0) and noise (time 1), as a trunk reads them."""
    if generate.objective == "flow":
        return of(torch, "lerp")(clean, noise, at)
    return Block("noised")(clean, noise, at)


def held(
    generate: Generate, clean: Expression, noise: Expression, time: Fraction
) -> Expression:
    """What a tap at a fixed time strictly between data and noise reads."""
    if generate.objective == "edm":
        level = number(time / (1 - time))
        return Block("scaled")(clean + level * noise, level, deviation(generate))
    if generate.objective == "flow":
        return of(torch, "lerp")(clean, noise, number(time))
    return Block("noised")(clean, noise, of(LIKE, "new_full")((1, 1, 1), number(time)))


class Trainer:
    """Inputs and errors of one generate in the training pass."""

    def __init__(self, frame: Frame, generate: Generate, inputs: Inputs):
        self.frame = frame
        self.context = frame.context
        self.generate = generate
        self.inputs = inputs
        self._hidden: dict[str, Expression] = {}
        self._noise: dict[str, Expression] = {}
        self._level: dict[str, Expression] = {}
        self._x: dict[str, Expression] = {}

    @property
    def draws(self) -> int:
        """Noises of each sample."""
        return self.generate.attributes.get("draws") or 1

    def _tokens(self, segment: Segment, group: TokenGroup) -> Expression:
        """The clean tokens, as often as noises are drawn for them."""
        tokens = self.frame.tokens(segment, group.codec)
        if self.draws == 1:
            return tokens
        name = f"{self.frame.name_of(segment)}_drawn"
        key = ("drawn", segment.reference, group.codec)
        return self.frame.once(key, name, repeated(tokens, self.draws))

    def prepare(self) -> None:
        """Draw times and noise; the noisy tokens go into the inputs."""
        if self.generate.objective in NOISY:
            shared = self._draw("shared") if self.generate.times == "shared" else None
            for segment in self.generate.segments:
                self._noised(segment, shared)
        elif self.generate.objective == "masked":
            for segment in self.generate.segments:
                self._masked(segment)

    def _draw(self, key: str, frames: int = 1) -> Expression:
        whose = self.generate.name if key == "shared" else key
        wanted = f"{whose}_level" if self.generate.objective == "edm" else f"{whose}_time"
        draw = law(self.generate.law, (SIZE if self.draws == 1 else SIZE * self.draws, frames))
        value = shifted(self.generate, draw)
        return self.frame.keep(("time", self.generate.name, key), wanted, value)

    def _noised(self, segment: Segment, shared: Expression | None) -> None:
        """x = the point of the path between data and noise at the drawn time."""
        groups = groups_of(self.context, self.generate, segment)
        if len({group.codec for group in groups}) > 1:
            message = f"{segment.reference} is generated through different codecs"
            raise Unsupported(message, self.generate.span)
        name, reference = self.frame.name_of(segment), segment.reference
        per_frame = self.generate.times == "per_frame"
        time = shared or self._draw(name, groups[0].frames if per_frame else 1)
        tokens = self._tokens(segment, groups[0])
        noise = self.frame.normal(of(tokens, "shape"))
        noise = self.frame.keep(("noise", reference), f"{name}_noise", noise)
        at = self._at(time, groups[0])
        self._noise[reference] = noise
        if self.generate.objective == "edm":
            noisy = self._edm_input(segment, tokens + at * noise, at)
            self._level[reference] = time
            wanted = f"{self.generate.name if shared else name}_time"
            time = self.frame.once(("told", time), wanted, Block("told_level")(time))
        else:
            path = point(self.generate, tokens, noise, at)
            noisy = self.frame.keep(("noisy", reference), f"{name}_noisy", path)
        self.inputs.times[reference] = time
        if per_frame:
            self.inputs.per_frame.add(reference)
        for group in groups:
            self.inputs.tokens[group.trunk, group.name] = noisy

    def _edm_input(self, segment: Segment, x: Expression, at: Expression) -> Expression:
        name, reference = self.frame.name_of(segment), segment.reference
        self._x[reference] = self.frame.keep(("x", reference), f"{name}_noisy", x)
        scaled = Block("scaled")(self._x[reference], at, deviation(self.generate))
        return self.frame.keep(("noisy", reference), f"{name}_scaled", scaled)

    def _each(self, time: Expression, group: TokenGroup) -> Expression:
        """The time of each token [B, 1 or T]."""
        if self.generate.times == "per_frame" and group.per_frame > 1:
            time = of(time, "repeat_interleave")(group.per_frame, dim=1)
        return time

    def _at(self, time: Expression, group: TokenGroup) -> Expression:
        """The time of each token [B, 1 or T, 1]."""
        return self._each(time, group)[..., None]

    def _masked(self, segment: Segment) -> None:
        """Each token is hidden with the drawn share as its chance."""
        group = groups_of(self.context, self.generate, segment)[0]
        name, reference = self.frame.name_of(segment), segment.reference
        share = self._draw(name)
        index = self.frame.tokens(segment, group.codec)
        draw = of(torch, "rand")(
            of(index, "shape"),
            generator=GENERATOR,
            dtype=of(LIKE, "dtype"),
            device=of(LIKE, "device"),
        )
        hidden = self.frame.keep(("hidden", reference), f"{name}_hidden", draw.below(share))
        symbols = vocabulary(self.context.model, group)
        masked = of(index, "masked_fill")(hidden, symbols)
        wanted = f"{name}_masked"
        self.inputs.tokens[group.trunk, group.name] = self.frame.keep(
            ("masked", reference), wanted, masked
        )
        self._hidden[reference] = hidden

    def error(self, writer: PassWriter) -> Expression:
        """The mean error over the valid samples of every segment and group."""
        pairs = [
            (segment, group)
            for segment in self.generate.segments
            for group in groups_of(self.context, self.generate, segment)
        ]
        if len(pairs) == 1:
            return self._term(writer, *pairs[0])
        total, *others = (self._kept_term(writer, *pair) for pair in pairs)
        for term in others:
            total = total + term
        return total / len(pairs)

    def _kept_term(self, writer: PassWriter, segment: Segment, group: TokenGroup) -> Expression:
        """One of several terms, under its own name."""
        key = ("error", group.trunk, group.name)
        wanted = f"{self.frame.name_of(segment)}_error"
        return self.frame.keep(key, wanted, self._term(writer, segment, group))

    def _term(self, writer: PassWriter, segment: Segment, group: TokenGroup) -> Expression:
        shift = self.generate.objective == "autoregressive"
        wanted = f"{self.frame.name_of(segment)}_out"
        key = ("out", group.trunk, group.name)
        output = added(self.frame, self.generate, group, writer.output(group, shift), self.draws)
        output = self.frame.keep(key, wanted, output)
        tokens = self._tokens(segment, group)
        if by_number(self.context.stream(segment)) and not self._is_plain(group):
            what = f"`valid mask` of {segment.reference}, whose tokens are not its numbers,"
            raise Unsupported(what, self.generate.span)
        if self.generate.objective in SYMBOLIC:
            return self._symbol_error(segment, group, output, tokens)
        distance = self.generate.distance if self.generate.objective == "regression" else "l2"
        if self.generate.objective == "edm":
            output = self._clean(segment, group, output)
        error = self._distance(distance, segment, group, output, tokens)
        weight = self._weight(segment, group)
        error = error if weight is None else weight * error
        counted = valid(self.frame, segment, group.codec)
        if self.draws > 1:
            counted = repeated(counted, self.draws)
        return Block("valid_mean")(error, counted)

    def _is_plain(self, group: TokenGroup) -> bool:
        """Whether a head predicts the numbers of a step themselves."""
        return self.context.model.codecs[group.codec].kind in ("linear", "mlp")

    def _distance(
        self, distance: str, segment: Segment, group: TokenGroup, output: Expression,
        tokens: Expression,
    ) -> Expression:  # fmt: skip
        """The error of each token; of a stream with padding over its valid numbers alone."""
        target = self._target(segment, group, tokens)
        stream = self.context.stream(segment)
        if not by_number(stream):
            return Block(distance)(output, target)
        kept = numbers_of(self.frame, segment)
        if self.draws > 1:
            wanted = f"{self.frame.name_of(segment)}_kept_drawn"
            key = ("kept", "drawn", segment.reference)
            kept = self.frame.once(key, wanted, repeated(kept, self.draws))
        return Block("over_numbers")(Block(distance)(kept * output, kept * target), kept)

    def _clean(self, segment: Segment, group: TokenGroup, output: Expression) -> Expression:
        """The data that an EDM head's output implies."""
        reference = segment.reference
        at = self._at(self._level[reference], group)
        clean = Block("denoised")(self._x[reference], output, at, deviation(self.generate))
        wanted = f"{self.frame.name_of(segment)}_denoised"
        return self.frame.keep(("denoised", reference), wanted, clean)

    def _weight(self, segment: Segment, group: TokenGroup) -> Expression | None:
        """What the error of each token counts at its time; None where all count the same."""
        weighting, reference = self.generate.attributes.get("weighting", "even"), segment.reference
        if weighting == "even":
            return None
        if weighting == "bell":
            return Block("bell")(self._each(self.inputs.times[reference], group))
        level = self._each(self._level[reference], group)
        return Block("edm_weight")(level, deviation(self.generate))

    def _target(self, segment: Segment, group: TokenGroup, tokens: Expression) -> Expression:
        if self.generate.predict in DATA or self.generate.objective == "edm":
            return tokens
        noise = self._noise[segment.reference]
        if self.generate.objective == "flow":
            return noise - tokens
        if self.generate.predict == "eps":
            return noise
        if self.generate.predict == "x0":
            return tokens
        at = self._at(self.inputs.times[segment.reference], group)
        return Block("velocity_of")(tokens, noise, at)

    def _symbol_error(
        self, segment: Segment, group: TokenGroup, logits: Expression, index: Expression
    ) -> Expression:
        error = Block("cross_entropy")(logits, index)
        share = self.generate.attributes.get("z_loss") or 0
        if share:
            error = error + number(share) * of(of(logits, "logsumexp")(dim=-1), "square")()
        counted = valid(self.frame, segment, group.codec)
        if self.generate.objective == "autoregressive":
            return Block("valid_mean")(error, counted)
        hidden = self._hidden[segment.reference]
        return Block("chosen_mean")(error, hidden, counted)

    def estimate(self, writer: PassWriter, segment: Segment) -> Expression:
        """What the pass so far makes of a segment, as clean tokens without a gradient."""
        group = groups_of(self.context, self.generate, segment)[0]
        name, reference = self.frame.name_of(segment), segment.reference
        output = writer.output(group, shift=self.generate.objective == "autoregressive")
        if self.generate.objective in SYMBOLIC:
            clean = of(output, "argmax")(dim=-1)
        elif self.generate.predict == "change":
            wanted = f"{name}_change"
            told = self.frame.keep(("told", reference), wanted, of(output, "detach")())
            clean = added(self.frame, self.generate, group, told)
        elif self.generate.objective == "regression":
            clean = of(output, "detach")()
        elif self.generate.objective == "edm":
            clean = of(self._clean(segment, group, output), "detach")()
        else:
            noisy = self.inputs.tokens[group.trunk, group.name]
            at = self._at(self.inputs.times[reference], group)
            clean = of(ends(self.generate, noisy, output, at), "detach")()
        return self.frame.keep(("estimate", reference), f"{name}_predicted", clean)


def ends(generate: Generate, x: Expression, output: Expression, at: Expression) -> Expression:
    """The clean end of the path that a head's output implies."""
    if generate.predict == "data":
        return output
    if generate.objective == "flow":
        return x - at * output
    return Block(f"ends_from_{generate.predict}")(x, output, at)[0]


def valid(frame: Frame, segment: Segment, codec_name: str = "") -> Expression:
    """Which samples of a segment count [B, n]; where a codec reads several as one, all of them."""
    found = _valid_samples(frame, segment)
    codec = frame.context.model.codecs.get(codec_name)
    groups = groups_in(codec, segment) if codec else segment.length
    return found if groups == segment.length else Block("whole_groups")(found, groups)


def _valid_samples(frame: Frame, segment: Segment) -> Expression:
    stream = frame.context.stream(segment)
    window = 1 if segment.name == "whole" else stream.window
    value = Block("validity")(Name("batch"), stream.name, SIZE, window)
    if by_number(stream):
        value = Binary("&", value, of(_numbers(frame, stream), "any")(dim=2))
    if frame.samples is not None:
        value = Binary("&", value, frame.samples)
    name = frame.once(("valid", stream.name), f"{stream.name}_valid", value)
    return _part(stream, segment, name)


def _numbers(frame: Frame, stream: Stream) -> Expression:
    """Which numbers of a stream's window are no padding [B, window, D]."""
    arguments = stream.name, SIZE, stream.window, stream.sample
    value = Block("numbers_present")(Name("batch"), *arguments)
    return frame.once(("numbers", stream.name), f"{stream.name}_kept", value)


def numbers_of(frame: Frame, segment: Segment) -> Expression:
    """Which numbers of a segment are no padding [B, n, D]."""
    stream = frame.context.stream(segment)
    return _part(stream, segment, _numbers(frame, stream))


def _part(stream: Stream, segment: Segment, window: Expression) -> Expression:
    """Of a stream's window what belongs to a segment."""
    if len(stream.segments) == 1:
        return window
    start = stream.start(segment.name)
    return window[:, slice(start, start + segment.length)]
