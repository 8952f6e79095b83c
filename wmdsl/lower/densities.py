"""The log-density of recorded answers, a method per query: emitted into a file of their own."""

from __future__ import annotations

from wmdsl.lower.codecs import EMBODIMENT
from wmdsl.lower.context import Context, number
from wmdsl.lower.denoising import AHEAD, NOW, STEPS, THEN, Denoiser
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import CLEAN, GENERATOR, LIKE, SIZE
from wmdsl.lower.generation import Generating, Question
from wmdsl.lower.header import names
from wmdsl.lower.loss import times_needed
from wmdsl.lower.objectives import NOISY, levels_of
from wmdsl.lower.program import (
    Block,
    Expression,
    Method,
    Name,
    Parameter,
    expression,
    me,
    of,
    torch,
)
from wmdsl.lower.stepping import PATH
from wmdsl.plan.density import EXACT_NUMBERS, FIRST_LEVEL, first_level, numbers_of, unchanged
from wmdsl.plan.nodes import Generation, QueryPlan
from wmdsl.plan.parameters import vocabulary

PROBES = Name("probes")
HALF, TRACE = Name("half"), Name("trace")


def density_methods(context: Context) -> list[Method]:
    """A method for every question whose answers have a log-density."""
    return [
        _Density(context, question).method()
        for question in context.questions
        if question.density.answer != "no" and scorable(context, question) is None
    ]


def density_name(question: QueryPlan) -> str:
    return f"log_density_{question.name}"


def scorable(context: Context, question: QueryPlan) -> Unsupported | None:
    """Why the log-density of a question cannot be written; None where it can."""
    try:
        _Density(context, question).method()
    except Unsupported as found:
        return found
    return None


class _Density:
    """The log-density of one query's answers, which the batch holds, as a method."""

    def __init__(self, context: Context, plan: QueryPlan):
        self.plan = plan
        self.query = Question.of(context, plan)
        self.frame = self.query.frame
        self.model = context.model

    def method(self) -> Method:
        """The whole method."""
        frame = self.frame
        sought = [self.query.segments[reference] for reference in self.plan.sought]
        frame.read([*self.query.givens(), *sought], complete=False)
        frame.begin()
        if times_needed(self.query.context):
            frame.body.assign(CLEAN, of(LIKE, "new_zeros")(SIZE, 1))
        parts: dict[str, Expression] = {}
        for index, step in enumerate(self.plan.chain):
            scorer = scorer_of(self.query, step, f"{self.plan.name}{index or ''}")
            scorer.write()
            parts["+".join(self.query.segments[name].stream for name in step.segments)] = scorer.sum
        frame.body.give_back(expression(_answer(parts)))
        return Method(
            name=density_name(self.plan),
            parameters=tuple(self._parameters()),
            returns="dict[str, Tensor]",
            doc=self._doc(),
            body=frame.body.pruned(EMBODIMENT, CLEAN, SIZE, LIKE),
            decorator="torch.no_grad()",
            span=self.query.span,
        )

    def _parameters(self):
        yield Parameter("self", "")
        yield Parameter("batch", "dict[str, Tensor]")
        yield Parameter("generator", "Generator | None", "None")
        yield Parameter("steps", "int | None", "None")
        if any(step.objective in NOISY for step in self.plan.chain):
            numbers = sum(
                numbers_of(self.model, self.query.generates[name], name)
                for step in self.plan.chain if step.objective in NOISY
                for name in step.segments
            )  # fmt: skip
            yield Parameter("probes", "int | None", "None" if numbers <= EXACT_NUMBERS else "1")

    def _doc(self) -> str:
        sought, given = (names(self.model, n) for n in (self.plan.sought, self.plan.given))
        density = self.plan.density
        return f"{sought} given {given} ({density.answer}).\n{density.because}."


def _answer(parts: dict[str, Expression]) -> dict[str, Expression]:
    """The sum [B], and beside it each part of a chain by its streams."""
    total, *others = parts.values()
    for part in others:
        total = total + part
    return {"log_density": total, **(parts if others else {})}


class Scorer(Generating):
    """The base of what writes the log-density of recorded segments: `sum` is its variable [B]."""

    @property
    def sum(self) -> Name:
        wanted = "log_density"
        if len(self.query.plan.chain) > 1:
            wanted = "_".join([*map(self.name_of, self.generation.segments), wanted])
        return self.frame.local(("log_density", self.writer.label), wanted)

    def add(self, value: Expression) -> None:
        """The sum and something more."""
        self.frame.body.assign(self.sum, self.sum + value)

    def tokens(self, reference: str) -> Expression:
        """Recorded tokens of a segment."""
        return self.frame.tokens(self.query.segments[reference], self.groups(reference)[0].codec)

    def show(self, reference: str, value: Expression) -> None:
        """The trunks read a value of the segment."""
        for group in self.groups(reference):
            self.inputs.tokens[group.trunk, group.name] = value

    def in_units(self, reference: str) -> None:
        """From normalised numbers to those of the data set, where tokens are numbers of it."""
        segment = self.query.segments[reference]
        if not unchanged(self.model, self.groups(reference)[0]):
            return
        numbers = numbers_of(self.model, self.generate(reference), reference)
        stream = self.context.stream(segment)
        if stream.normalise == "unit":
            self.frame.body.assign(self.sum, Block("rescaled")(self.sum, numbers, 2))
        elif stream.normalise != "none":
            scale = of(me, f"{stream.name}_scale")
            mean = of(of(scale, "log")(), "mean")()
            self.frame.body.assign(self.sum, self.sum - numbers * mean)


class TeacherForced(Scorer):
    """Autoregression: one pass over the recorded tokens."""

    def produce(self) -> None:
        (reference,) = self.generation.segments
        index, group = self.tokens(reference), self.groups(reference)[0]
        self.show(reference, index)
        self.stepper.ahead()
        self.stepper.code_ahead()
        self.stepper.step()
        logits = self.writer.output(group, shift=True)
        span = self.generate(reference).span
        self.frame.body.assign(self.sum, Block("log_probability")(logits, index), span)


class Subsets(Scorer):
    """Masked tokens: what hidden subsets of the recorded tokens make of them."""

    def produce(self) -> None:
        (reference,) = self.generation.segments
        index, group = self.tokens(reference), self.groups(reference)[0]
        name, draws = self.name_of(reference), STEPS.or_(self.generation.steps)
        count = self.frame.keep(("draws", reference), f"{name}_draws", draws)
        hidden = self.frame.local(("hidden", reference), f"{name}_hidden")
        shown = self.frame.local(("x", reference), f"{name}_shown")
        self.show(reference, shown)
        self.stepper.ahead()
        self.stepper.code_ahead()
        self.frame.body.assign(self.sum, of(LIKE, "new_zeros")(SIZE))
        with self.frame.body.loop(Name("_"), Name("range")(count)):
            self.frame.body.assign(hidden, Block("subset")(index, GENERATOR))
            mask = vocabulary(self.model, group)
            self.frame.body.assign(shown, of(index, "masked_fill")(hidden, mask))
            self.stepper.step()
            bound = Block("subset_bound")(self.writer.output(group), index, hidden)
            self.add(bound / count)


class OneLaw(Scorer):
    """Regression whose error stands for a law of a declared scale."""

    def produce(self) -> None:
        self.writer.write(self.query.plan.name)
        self.frame.body.assign(self.sum, of(LIKE, "new_zeros")(SIZE))
        for reference in self.generation.segments:
            generate = self.generate(reference)
            law = "laplace_log_density" if generate.distance == "l1" else "normal_log_density"
            error = self.output(reference) - self.tokens(reference)
            scale = number(generate.attributes["scale"])
            self.frame.body.assign(self.sum, self.sum + Block(law)(error, scale), generate.span)
            self.in_units(reference)


class ProbabilityFlow(Scorer, Denoiser):
    """From the recorded data along the probability flow to noise, with the divergence on the way.

    Midpoint steps, even in the noise level that tokens are told, or in the seventh root of the
    levels of EDM.
    """

    def __init__(self, query: Question, generation: Generation, label: str):
        super().__init__(query, generation, label)
        self._points: dict[str, Name] = {}

    def x(self, reference: str) -> Name:
        return self._points[reference]

    def produce(self) -> None:
        noisy, body = self.noisy(), self.frame.body
        self._check_levels(noisy)
        starts = {reference: self._start(reference) for reference in noisy}
        self._points |= starts
        self.stepper.ahead()
        body.assign(self.sum, of(LIKE, "new_zeros")(SIZE))
        with self._up(noisy):
            body.assign(HALF, (NOW + THEN) / 2)
            slopes = {name: self._direction(name, NOW) for name in self._evaluated(noisy, NOW)}
            with body.context(of(torch, "enable_grad")()):
                for reference, slope in slopes.items():
                    self._points[reference] = self._halfway(reference, starts[reference], slope)
                self.stepper.tell(AHEAD)
                fields = [
                    self._direction(name, HALF) for name in self._evaluated(noisy, HALF)
                ]
                self.stepper.tell("")
            halves = [self._points[reference] for reference in noisy]
            body.assign(TRACE, Block("divergence")(fields, halves, PROBES, GENERATOR))
            self.add((THEN - NOW) * TRACE)
            for reference, field in zip(noisy, fields, strict=True):
                x = starts[reference]
                body.assign(x, x + (THEN - NOW) * of(field, "detach")())
            self._points |= starts
        for reference in noisy:
            self._end(reference)

    def _check_levels(self, noisy: list[str]) -> None:
        starts = {first_level(self.generate(name)) for name in noisy}
        if len(starts) > 1:
            message = "segments whose heads predict different things have no common path"
            raise Unsupported(message, self.generate(noisy[0]).span)

    def _start(self, reference: str) -> Name:
        """The recorded tokens, moved to the first level of the path."""
        generate, tokens = self.generate(reference), self.tokens(reference)
        if first_level(generate) and generate.objective == "flow":
            tokens = (1 - FIRST_LEVEL) * tokens
        key, wanted = ("point", reference), f"{self.name_of(reference)}_point"
        point = self.frame.keep(key, wanted, tokens)
        self.show(reference, point)
        return point

    def _up(self, noisy: list[str]):
        """The loop over (now, then) from data to noise."""
        generate, steps = self.generate(noisy[0]), STEPS.or_(self.generation.steps)
        if generate.objective == "edm":
            path = Block("ascending_levels")(steps, *levels_of(generate))
        else:
            first = FIRST_LEVEL if first_level(generate) else 0
            path = Block("ascending")(steps, first)
        body, stepper = self.frame.body, self.stepper
        if not stepper.folds():
            return body.loop((NOW, THEN), path)
        body.assign(PATH, path)
        for part, level in (("", NOW), (AHEAD, (NOW + THEN) / 2)):
            times = {name: self._told(self.generate(name), level) for name in noisy}
            stepper.fold((NOW, THEN), times, part)
        names = (expression((NOW, THEN)), *stepper.codes.values())
        return body.loop(names, Name("zip")(PATH, *stepper.folded.values(), strict=True))

    def _told(self, generate, at: Expression) -> Expression:
        """The path is even in the level that is told, whatever the shift."""
        return Block("told_level")(at) if generate.objective == "edm" else at

    def _evaluated(self, noisy: list[str], at: Expression) -> list[str]:
        """The segments, behind a pass at a level."""
        for reference in noisy:
            if self.objective(reference) == "edm":
                self.level(reference, at)
            else:
                self.show(reference, self.x(reference))
                self.tell(reference, at)
        self.stepper.step()
        return noisy

    def _direction(self, reference: str, at: Expression) -> Name:
        """How the point changes with the level."""
        generate, x = self.generate(reference), self.x(reference)
        if generate.objective == "flow" and generate.predict == "velocity":
            return self.named(reference, "slope", self.output(reference))
        if generate.objective != "diffusion":
            clean = self.named(reference, "clean", self.clean(reference, at))
            wanted = f"{self.name_of(reference)}_slope"
            return self.frame.keep(("slope", reference), wanted, (x - clean) / at)
        time = of(LIKE, "new_full")((1, 1, 1), at)
        ends = Block(f"ends_from_{generate.predict}")(x, self.output(reference), time)
        ends = self.named(reference, "ends", ends)
        return self.named(reference, "slope", Block("direction")(ends[0], ends[1], time))

    def _halfway(self, reference: str, x: Name, slope: Name) -> Name:
        moved = of((x + (HALF - NOW) * slope), "requires_grad_")()
        wanted = f"{self.name_of(reference)}_half"
        return self.frame.keep(("half", reference), wanted, moved)

    def _end(self, reference: str) -> None:
        """The log-density of the noise, and what the units change."""
        generate, group = self.generate(reference), self.groups(reference)[0]
        edm = generate.objective == "edm"
        deviation = levels_of(generate)[1] if edm else 1
        self.add(Block("normal_log_density")(self.x(reference), deviation))
        if first_level(generate) and generate.objective == "flow":
            numbers = group.count * group.features
            self.frame.body.assign(
                self.sum, Block("rescaled")(self.sum, numbers, 1 - FIRST_LEVEL)
            )
        self.in_units(reference)


SCORERS = {
    **dict.fromkeys(NOISY, ProbabilityFlow),
    "regression": OneLaw,
    "autoregressive": TeacherForced,
    "masked": Subsets,
}


def scorer_of(query: Question, generation: Generation, label: str) -> Scorer:
    """What writes the log-density of a generation's segments."""
    return SCORERS[generation.objective](query, generation, label)
