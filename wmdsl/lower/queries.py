"""One method per declared query: read the givens, generate along the chain, give back."""

from __future__ import annotations

from fractions import Fraction

from wmdsl.check.model import Align, Generate, Segment, TokenGroup
from wmdsl.check.queries import left_out
from wmdsl.lower.codecs import EMBODIMENT
from wmdsl.lower.context import Context, number
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import BATCH, CLEAN, GENERATOR, LIKE, SIZE, Frame
from wmdsl.lower.header import names
from wmdsl.lower.loss import hand_over, predicted_features, times_needed
from wmdsl.lower.objectives import (
    NOISY,
    deviation,
    groups_of,
    held,
    levels_of,
    shifted,
    tokens_read,
)
from wmdsl.lower.passes import Inputs, PassWriter
from wmdsl.lower.pretrained import earlier
from wmdsl.lower.program import (
    Block,
    Body,
    Expression,
    Method,
    Name,
    Parameter,
    expression,
    me,
    of,
    torch,
)
from wmdsl.lower.spaces import crosses_of
from wmdsl.lower.stepping import COUNT, LEVEL, PATH, Stepper
from wmdsl.plan.named import questions
from wmdsl.plan.nodes import Generation, QueryPlan
from wmdsl.plan.parameters import vocabulary
from wmdsl.plan.roles import generates_by_segment

PARAMETERS = (
    Parameter("self", ""),
    Parameter("batch", "dict[str, Tensor]"),
    Parameter("generator", "Generator | None", "None"),
    Parameter("steps", "int | None", "None"),
)
NO_GRAD = "torch.no_grad()"
AHEAD = "_ahead"  # of the second evaluation of a step
NOW, THEN, STEPS = Name("now"), Name("then"), Name("steps")


def query_methods(context: Context) -> list[Method]:
    """A method for every question, then the one that chooses among them by any of its names."""
    methods = [query_method(context, question) for question in context.questions]
    table = {
        name: of(me, method_name(question))
        for name, question in questions(context.plan).items()
        if question in context.questions
    }
    ask = Block("chosen")(Name("name"), expression(table))
    parameters = (PARAMETERS[0], Parameter("name", "str"), *PARAMETERS[1:])
    body = Body()
    body.give_back(ask(BATCH, GENERATOR, STEPS))
    doc = "The answer to a query, by name; `steps` overrides those of the spec."
    chooser = Method("query", parameters, "dict[str, Tensor]", doc, body.statements)
    return [*methods, chooser]


def query_method(context: Context, question: QueryPlan) -> Method:
    """The method that answers one question."""
    return _Query(context, question).method()


def method_name(question: QueryPlan) -> str:
    return f"query_{question.name}"


class _Query:
    """One query: `known` are references of segments whose value stands, `foreseen` the features
    of segments that are never decoded, by the align that predicts them."""

    def __init__(self, context: Context, plan: QueryPlan):
        self.context = context
        self.model = context.model
        self.plan = plan
        query = context.model.queries.get(plan.name) if plan.declared else None
        self.guidance = query.guidance if query else {}
        given = left_out(context.model.streams, query.given) if self.guidance else ()
        self.frame = Frame(context, given)
        self.segments = {
            segment.reference: segment
            for stream in self.model.streams.values()
            for segment in stream.segments
        }
        self.generates = generates_by_segment(self.model)
        self.known = set(plan.given)
        self.partial: dict[tuple[str, Fraction], Expression] = {}
        self.foreseen: dict[str, dict[str, Expression]] = {}

    def method(self) -> Method:
        """The whole method."""
        frame = self.frame
        frame.read(self._read(), complete=False)
        frame.begin()
        if times_needed(self.context):
            frame.body.assign(CLEAN, of(LIKE, "new_zeros")(SIZE, 1))
        for index, generation in enumerate(self.plan.chain):
            _Generator(self, generation, f"{self.plan.name}{index or ''}").write()
        frame.body.give_back(expression(self._answers()))
        owner = self.model.queries[self.plan.name] if self.plan.declared else self.model
        return Method(
            name=method_name(self.plan),
            parameters=PARAMETERS,
            returns="dict[str, Tensor]",
            doc=self._doc(),
            body=frame.body.pruned(EMBODIMENT, CLEAN, SIZE, LIKE),
            decorator=NO_GRAD,
            span=owner.span,
        )

    def _doc(self) -> str:
        sought, given = (names(self.model, n) for n in (self.plan.sought, self.plan.given))
        dropped = [f"{entry.what}: {entry.how.replace('_', ' ')}" for entry in self.plan.dropped]
        return "\n".join([f"{sought} given {given} ({self.plan.answerable}).", *dropped])

    def _read(self) -> list[Segment]:
        """The givens that some pass of the chain reads."""
        used: dict[str, None] = {}
        for generation in self.plan.chain:
            for space in generation.evaluation.spaces:
                for placed in space.groups:
                    if placed.group.segment is not None:
                        used[placed.group.segment.reference] = None
                for trunk in space.trunks:
                    used.update(dict.fromkeys(self._sources(trunk)))
        used.update(dict.fromkeys(self._clips()))
        return [self.segments[reference] for reference in used if reference in self.plan.given]

    def _clips(self) -> list[str]:
        """Segments that a codec reads before those that are sought."""
        groups = [group for trunk in self.model.trunks.values() for group in trunk.groups]
        return [
            part.reference
            for group in groups
            if group.name in self.plan.sought and group.codec
            for part in earlier(self.model, self.model.codecs[group.codec], group.segment)
        ]

    def _sources(self, trunk: str) -> list[str]:
        """Segments that couplings of a trunk read."""
        conditions = [c for c in self.model.conditions.values() if c.trunk == trunk or c.codec]
        readers = [*crosses_of(self.model, (trunk,)), *conditions]
        found = [source for reader in readers for source in reader.sources]
        return [source.segment.reference for source in found if source.segment is not None]

    def _answers(self) -> dict[str, Expression]:
        """What is sought, in raw units, by stream; foreseen features by their align."""
        answers = {}
        for reference in self.plan.sought:
            if reference in self.foreseen:
                answers |= self.foreseen[reference]
                continue
            segment = self.segments[reference]
            name = reference if segment.stream in answers else segment.stream
            value = self.frame.raw(segment)
            answers[name] = of(value, "chunk")(2)[0] if self.guidance else value
        return answers


class _Generator:
    """One generation of a query's chain."""

    def __init__(self, query: _Query, generation: Generation, label: str):
        self.query = query
        self.frame = query.frame
        self.context = query.context
        self.model = query.model
        self.generation = generation
        self.evaluation = generation.evaluation
        self.inputs = Inputs()
        self.writer = PassWriter(self.frame, generation.evaluation, self.inputs, label)
        self.moving = [
            reference
            for reference in (*generation.segments, *generation.joint)
            if self._objective(reference) not in ("regression", "align")
        ]
        self.stepper = Stepper(self.writer, generation, query.plan.name, self.moving)

    def write(self) -> None:
        """Everything of this generation; its segments are known from here on."""
        names = " and ".join(self.generation.segments)
        span = self._owner().span
        self.frame.body.section(f"{names} by {self.generation.objective}", span)
        self._hand_over()
        self._hold()
        self._pin()
        if self.query.guidance and self.generation.objective not in (*NOISY, "regression"):
            message = f"{names} cannot be generated by {self.generation.objective} under guidance"
            raise Unsupported(message, span)
        if self.generation.objective in NOISY:
            self._along_the_path()
        elif self.generation.objective == "regression":
            self._in_one_pass()
        elif self.generation.objective == "autoregressive":
            self._token_by_token()
        elif self.generation.objective == "masked":
            self._in_rounds()
        elif self.generation.objective == "align":
            self._foresee()
        else:
            message = f"{names} cannot be generated by {self.generation.objective}"
            raise Unsupported(message, span)

    def _generate(self, reference: str) -> Generate:
        return self.query.generates[reference]

    def _objective(self, reference: str) -> str:
        generate = self.query.generates.get(reference)
        return generate.objective if generate else self.generation.objective

    def _owner(self) -> Generate | Align:
        """The first declaration that predicts the segments."""
        return next(iter(self._aligns()), None) or self._generate(self.generation.segments[0])

    def _aligns(self) -> list[Align]:
        found = self.generation.generates if self.generation.objective == "align" else ()
        return [self.model.aligns[name] for name in found]

    def _groups(self, reference: str) -> list[TokenGroup]:
        """The live groups that predict a segment."""
        segment = self.query.segments[reference]
        live = {placed.key for space in self.evaluation.spaces for placed in space.groups}
        found = groups_of(self.context, self._generate(reference), segment)
        return [group for group in found if (group.trunk, group.name) in live]

    def _hand_over(self) -> None:
        """A segment that stands is handed to the trunks that read it so."""
        for hand in self.model.hands.values():
            role = self.evaluation.roles.get((hand.trunk, hand.segment.reference))
            if role == "handed":
                value = self.frame.value(hand.segment)
                hand_over(self.frame, self.inputs, hand, value)

    def _hold(self) -> None:
        """What taps at a time of their own read of generated segments."""
        for space in self.evaluation.spaces:
            for placed in space.groups if space.time is not None else ():
                if self.evaluation.roles[placed.key] == "noisy":
                    key = placed.group.segment.reference, space.time
                    self.inputs.held[key] = self._held(placed.group, space.time)

    def _held(self, group: TokenGroup, time: Fraction) -> Expression:
        reference = group.segment.reference
        if (reference, time) in self.query.partial:
            return self.query.partial[reference, time]
        name = self.frame.name_of(group.segment)
        noise = self.frame.normal(self._shape(group))
        if time == 1:
            return self.frame.keep(("held", reference, time), f"{name}_held", noise)
        tokens, generate = self.frame.tokens(group.segment, group.codec), self._generate(reference)
        if time == 0:
            return tokens_read(generate, tokens)
        value = held(generate, tokens, noise, time)
        return self.frame.keep(("held", reference, time), f"{name}_held", value)

    def _pin(self) -> None:
        """Segments that stay pure noise."""
        for space in self.evaluation.spaces:
            for group in (placed.group for placed in space.groups):
                if self.evaluation.roles[group.trunk, group.name] == "pinned":
                    name = f"{self.frame.name_of(group.segment)}_pinned"
                    noise = self.frame.once(("pinned", group.segment.reference), name,
                                            self.frame.normal(self._shape(group)))  # fmt: skip
                    self.inputs.tokens[group.trunk, group.name] = noise
                    ones = of(LIKE, "new_ones")(SIZE, 1)
                    self.inputs.times[group.segment.reference] = ones

    def _shape(self, group: TokenGroup) -> tuple:
        return (SIZE, group.count, group.features)

    def _start(self, reference: str, value: Expression) -> Name:
        """The variable that generation changes, with its first value."""
        segment = self.query.segments[reference]
        name = self.frame.keep(("x", reference), self.frame.name_of(segment), value)
        for group in self._groups(reference):
            self.inputs.tokens[group.trunk, group.name] = name
        return name

    # Flow and diffusion.

    def _along_the_path(self) -> None:
        noisy = [reference for reference in self.moving if self._objective(reference) in NOISY]
        if len(noisy) < len(self.moving):
            message = "segments of different objectives cannot be generated in one pass"
            raise Unsupported(message, self._generate(self.moving[0]).span)
        walk = self._walk(noisy)
        for reference in noisy:
            self._start(reference, self._first(reference))
        self.stepper.ahead()
        with self._loop(noisy, walk):
            times = {reference: self._times(reference) for reference in noisy}
            self.stepper.step()
            if self.generation.sampler == "heun":
                self._twice(times)
            else:
                for reference in noisy:
                    self._step(reference, *times[reference])
        for reference in self.generation.segments:
            self._settle(reference)

    def _loop(self, noisy: list[str], walk: Expression):
        """Over (now, then), and beside them what each step tells the trunks."""
        body, stepper = self.frame.body, self.stepper
        if not stepper.folds():
            return body.loop((NOW, THEN), walk)
        body.assign(PATH, walk)
        body.assign(LEVEL, of(LIKE, "new_tensor")(PATH)[:, :1])
        stepper.fold(self._all_told(noisy, LEVEL))
        if self.generation.sampler == "heun":
            body.assign(LEVEL, of(LIKE, "new_tensor")(PATH)[:, 1:])
            stepper.fold(self._all_told(noisy, LEVEL), AHEAD)
        names = (expression((NOW, THEN)), *stepper.codes.values())
        return body.loop(names, Name("zip")(PATH, *stepper.folded.values(), strict=True))

    def _all_told(self, noisy: list[str], at: Expression) -> dict[str, Expression]:
        """The times of all steps [steps, 1] by segment."""
        roles = self.evaluation.roles.items()
        pinned = [name for (_, name), role in roles if role == "pinned"]
        return {
            **{reference: self._told(self._generate(reference), at) for reference in noisy},
            **{reference: of(LIKE, "new_ones")(COUNT, 1) for reference in pinned},
        }

    def _twice(self, times: dict[str, tuple[Expression, Expression]]) -> None:
        """Heun's step: along the slope here, then along the mean with the slope ahead."""
        found = {}
        for reference, (now, then) in times.items():
            x, name = self._x(reference), self.frame.name_of(self.query.segments[reference])
            span = self._generate(reference).span
            slope = self._slope(reference, now)
            slope = self.frame.keep(("slope", reference), f"{name}_slope", slope, span)
            start = self.frame.keep(("start", reference), f"{name}_start", x)
            self.frame.body.assign(x, x + (then - now) * slope)
            found[reference] = slope, start
        with self.frame.body.branch(THEN):
            for reference, (_, then) in times.items():
                if self._objective(reference) == "edm":
                    self._level(reference, then)
                else:
                    self._tell(reference, then)
            self.stepper.tell(AHEAD)
            self.stepper.step()
            self.stepper.tell("")
            for reference, (now, then) in times.items():
                slope, start = found[reference]
                name = self.frame.name_of(self.query.segments[reference])
                ahead = self._slope(reference, then)
                ahead = self.frame.keep(("slope", reference, AHEAD), f"{name}_slope{AHEAD}", ahead)
                half = (then - now) / 2
                self.frame.body.assign(self._x(reference), start + half * (slope + ahead))

    def _x(self, reference: str) -> Name:
        segment = self.query.segments[reference]
        return self.frame.local(("x", reference), self.frame.name_of(segment))

    def _slope(self, reference: str, at: Expression) -> Expression:
        """How x changes with the time, or with the level of EDM."""
        generate, output = self._generate(reference), self._output(reference)
        if generate.objective == "flow" and generate.predict != "data":
            return output
        if generate.objective == "edm":
            output = Block("denoised")(self._x(reference), output, at, deviation(generate))
        return (self._x(reference) - output) / at

    def _told(self, generate: Generate, at: Expression) -> Expression:
        """The time that tokens are told at a point of the walk."""
        return Block("told")(at) if generate.objective == "edm" else shifted(generate, at)

    def _first(self, reference: str) -> Expression:
        """Pure noise; where EDM begins, noise of the highest level."""
        generate = self._generate(reference)
        noise = self.frame.normal(self._shape(self._groups(reference)[0]))
        return levels_of(generate)[1] * noise if generate.objective == "edm" else noise

    def _walk(self, noisy: list[str]) -> Expression:
        """The pairs of times, or of levels of EDM, that the steps lead through."""
        first = self._generate(noisy[0])
        generates = [self._generate(reference) for reference in noisy]
        levels = [levels_of(generate) for generate in generates if generate.objective == "edm"]
        if levels and (len(levels) < len(generates) or len(set(levels)) > 1):
            message = "segments with different noise levels cannot be generated in one pass"
            raise Unsupported(message, first.span)
        steps, until = STEPS.or_(self.generation.steps), self.generation.until
        if levels:
            stop = [number(until / (1 - until))] if until else []
            return Block("descending_levels")(steps, *levels[0], *stop)
        stop = [number(_unshifted(until, first.shift))] if until else []
        return Block("descending")(steps, *stop)

    def _level(self, reference: str, at: Expression = NOW) -> None:
        """What the trunk reads at a level of EDM, and the time it is told."""
        generate, segment = self._generate(reference), self.query.segments[reference]
        name = self.frame.name_of(segment)
        x = self.frame.local(("x", reference), name)
        scaled = Block("scaled")(x, at, deviation(generate))
        scaled = self.frame.keep(("scaled", reference), f"{name}_scaled", scaled)
        for group in self._groups(reference):
            self.inputs.tokens[group.trunk, group.name] = scaled
        self._tell(reference, Block("told")(at))

    def _times(self, reference: str) -> tuple[Expression, Expression]:
        """(now, then) on the segment's own schedule; now is told to its tokens."""
        generate = self._generate(reference)
        now, then = NOW, THEN
        if generate.objective == "edm":
            self._level(reference)
            return now, then
        if generate.shift != 1:
            wanted = f"{generate.name}_now", f"{generate.name}_then"
            now, then = (self.frame.local((name, generate.name), name) for name in wanted)
            values = shifted(generate, NOW), shifted(generate, THEN)
            for name, value in zip((now, then), values, strict=True):
                self.frame.body.assign(name, value)
        self._tell(reference, now)
        return now, then

    def _tell(self, reference: str, time: Expression) -> None:
        """The time of a segment's tokens, under its name where somebody is told it in a step."""
        time = of(LIKE, "new_full")((SIZE, 1), time)
        wanted = f"{self.frame.name_of(self.query.segments[reference])}_time"
        if self.stepper.tells(reference):
            time = self.frame.keep(("time", reference), wanted, time)
        self.inputs.times[reference] = time

    def _step(self, reference: str, now: Expression, then: Expression) -> None:
        generate, segment = self._generate(reference), self.query.segments[reference]
        x = self.frame.local(("x", reference), self.frame.name_of(segment))
        output = self._output(reference)
        if generate.objective == "edm":
            output = Block("denoised")(x, output, now, deviation(generate))
        if generate.predict == "data" or generate.objective == "edm":
            point = of(torch, "lerp")(output, x, then / now)
            self.frame.body.assign(x, point, generate.span)
            return
        if generate.objective == "flow":
            wanted = f"{self.frame.name_of(segment)}_velocity"
            velocity = self.frame.keep(("velocity", reference), wanted, output, generate.span)
            self.frame.body.assign(x, x + (then - now) * velocity)
            return
        at, later = (of(LIKE, "new_full")((1, 1, 1), time) for time in (now, then))
        wanted = f"{self.frame.name_of(segment)}_ends"
        found = Block(f"ends_from_{generate.predict}")(x, output, at)
        found = self.frame.keep(("ends", reference), wanted, found, generate.span)
        if self.generation.sampler == "ancestral":
            fresh = self.frame.normal(of(x, "shape"))
            self.frame.body.assign(x, Block("ancestral")(found[0], found[1], fresh, at, later))
            return
        self.frame.body.assign(x, Block("noised")(found[0], found[1], later))

    def _output(self, reference: str) -> Expression:
        """What the head puts out; under guidance the same for both halves of the batch."""
        output = self.writer.output(self._groups(reference)[0])
        if not self.query.guidance:
            return output
        scale = self.query.guidance.get(self.query.segments[reference].stream, 1)
        return Block("guided")(output, number(scale))

    def _settle(self, reference: str) -> None:
        """The segment stands, or stands at the level where a later tap reads it."""
        segment = self.query.segments[reference]
        x = self.frame.local(("x", reference), self.frame.name_of(segment))
        if self.generation.until:
            until, generate = self.generation.until, self._generate(reference)
            if generate.objective == "edm":
                x = Block("scaled")(x, number(until / (1 - until)), deviation(generate))
            self.query.partial[reference, until] = x
            return
        self.frame.predicted(self._groups(reference)[0], x)
        self.query.known.add(reference)

    # One pass, tokens, rounds.

    def _in_one_pass(self) -> None:
        if self.moving:
            message = f"{self.moving[0]} would have to be generated beside a regression"
            raise Unsupported(message, self._generate(self.moving[0]).span)
        self.writer.write(self.query.plan.name)
        for reference in self.generation.segments:
            self._start(reference, self._output(reference))
            self._settle(reference)

    def _foresee(self) -> None:
        """Projected tokens, which training has compared with features of the segments."""
        if self.moving:
            message = f"{self.moving[0]} would have to be generated beside foreseen features"
            raise Unsupported(message, self._generate(self.moving[0]).span)
        self.writer.write(self.query.plan.name)
        for align in self._aligns():
            features = predicted_features(self.frame, align)
            self.query.foreseen.setdefault(align.target.reference, {})[align.name] = features

    def _symbols(self, fill: int | None) -> Name:
        """The indices of the one segment, all of them `fill` (None: the mask's index)."""
        reference, *others = self.moving
        if others:
            message = f"{others[0]} cannot be generated beside {reference} token by token"
            raise Unsupported(message, self._generate(reference).span)
        group = self._groups(reference)[0]
        fill = vocabulary(self.model, group) if fill is None else fill
        value = of(torch, "full")((SIZE, group.count), fill, device=of(LIKE, "device"))
        return self._start(reference, value)

    def _token_by_token(self) -> None:
        x, reference = self._symbols(0), self.moving[0]
        self.stepper.ahead()
        self.stepper.code_ahead()
        group, token = self._groups(reference)[0], Name("token")
        with self.frame.body.loop(token, Name("range")(group.count)):
            self.stepper.step()
            wanted = f"{self.frame.name_of(group.segment)}_logits"
            output = self.writer.output(group, shift=True)
            logits = self.frame.keep(("logits", reference), wanted, output)
            one = Block("drawn")(logits[:, token], GENERATOR)
            self.frame.body.assign(x[:, token], one, self._generate(reference).span)
        self._settle(reference)

    def _in_rounds(self) -> None:
        x, reference = self._symbols(None), self.moving[0]
        self.stepper.ahead()
        self.stepper.code_ahead()
        group = self._groups(reference)[0]
        mask = vocabulary(self.model, group)
        with self.frame.body.loop(
            (Name("_"), THEN), Block("descending")(STEPS.or_(self.generation.steps))
        ):
            self.stepper.step()
            shown = Block("revealed")(x, self.writer.output(group), mask, THEN, GENERATOR)
            self.frame.body.assign(x, shown, self._generate(reference).span)
        self._settle(reference)


def _unshifted(time: Fraction, shift: Fraction) -> Fraction:
    """The time that the shift moves to `time`."""
    return time / (shift - (shift - 1) * time)
