"""One generation of a query's chain: what it reads ahead of its steps, and what it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from wmdsl.check.model import Align, Generate, Model, Segment, TokenGroup
from wmdsl.check.queries import left_out
from wmdsl.lower.changes import added, last_tokens
from wmdsl.lower.context import Context, number
from wmdsl.lower.frame import LIKE, SIZE, Frame
from wmdsl.lower.inputs import Inputs
from wmdsl.lower.loss import hand_over
from wmdsl.lower.objectives import groups_of, held, tokens_read
from wmdsl.lower.passes import PassWriter
from wmdsl.lower.pretrained import earlier
from wmdsl.lower.program import Block, Expression, Name, of
from wmdsl.lower.spaces import crosses_of
from wmdsl.lower.stepping import Stepper
from wmdsl.plan.nodes import Generation, QueryPlan
from wmdsl.plan.roles import generates_by_segment
from wmdsl.source import Span


@dataclass(slots=True)
class Question:
    """What the generations of a query share: `known` are references of segments whose value
    stands, `partial` the values of segments at the noise level at which a tap reads them,
    `foreseen` the features of segments that are never decoded, by the align that predicts them;
    `guidance` is the scale of each stream under guidance."""

    context: Context
    plan: QueryPlan
    frame: Frame
    guidance: Mapping[str, Fraction]
    segments: dict[str, Segment]
    generates: dict[str, Generate]
    known: set[str]
    partial: dict[tuple[str, Fraction], Expression] = field(default_factory=dict)
    foreseen: dict[str, dict[str, Expression]] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Context, plan: QueryPlan) -> Question:
        """The question of a plan; under guidance it is asked with and without some givens."""
        model = context.model
        declared = model.queries.get(plan.name) if plan.declared else None
        guidance = declared.guidance if declared else {}
        given = left_out(model.streams, declared.given) if guidance else ()
        segments = {
            segment.reference: segment
            for stream in model.streams.values()
            for segment in stream.segments
        }
        return cls(
            context, plan, Frame(context, given), guidance, segments, generates_by_segment(model),
            set(plan.given),
        )  # fmt: skip

    @property
    def model(self) -> Model:
        return self.context.model

    @property
    def span(self) -> Span:
        """The line of the declared query, else that of the model."""
        return (self.model.queries[self.plan.name] if self.plan.declared else self.model).span

    def givens(self) -> list[Segment]:
        """The givens that some pass of the chain reads."""
        used: dict[str, None] = {}
        for generation in self.plan.chain:
            for space in generation.evaluation.spaces:
                for placed in space.groups:
                    if placed.group.segment is not None:
                        used[placed.group.segment.whole] = None
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


class Generating:
    """The base of what writes a generation: `produce` is that of an objective."""

    def __init__(self, query: Question, generation: Generation, label: str):
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
            if self.objective(reference) not in ("regression", "align")
        ]
        self.stepper = Stepper(self.writer, generation, query.plan.name, self.moving)

    def write(self) -> None:
        """Everything of this generation; its segments are known from here on."""
        self.frame.body.section(f"{self.names} by {self.generation.objective}", self.owner().span)
        self._hand_over()
        self._hold()
        self._pin()
        for reference in self.moving:
            if self.generate(reference).predict == "change":
                last_tokens(self.frame, self.groups(reference)[0])
        self.produce()

    def produce(self) -> None:
        """The passes, and what they make of the segments."""
        raise NotImplementedError

    @property
    def names(self) -> str:
        return " and ".join(self.generation.segments)

    def generate(self, reference: str) -> Generate:
        return self.query.generates[reference]

    def objective(self, reference: str) -> str:
        generate = self.query.generates.get(reference)
        return generate.objective if generate else self.generation.objective

    def owner(self) -> Generate | Align:
        """The first declaration that predicts the segments."""
        return next(iter(self.aligns()), None) or self.generate(self.generation.segments[0])

    def aligns(self) -> list[Align]:
        found = self.generation.generates if self.generation.objective == "align" else ()
        return [self.model.aligns[name] for name in found]

    def groups(self, reference: str) -> list[TokenGroup]:
        """The live groups that predict a segment."""
        segment = self.query.segments[reference]
        live = {placed.key for space in self.evaluation.spaces for placed in space.groups}
        found = groups_of(self.context, self.generate(reference), segment)
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
        noise = self.frame.normal(self.shape(group))
        if time == 1:
            return self.frame.keep(("held", reference, time), f"{name}_held", noise)
        tokens, generate = self.frame.tokens(group.segment, group.codec), self.generate(reference)
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
                                            self.frame.normal(self.shape(group)))  # fmt: skip
                    self.inputs.tokens[group.trunk, group.name] = noise
                    ones = of(LIKE, "new_ones")(SIZE, 1)
                    self.inputs.times[group.segment.reference] = ones

    def shape(self, group: TokenGroup) -> tuple:
        return (SIZE, group.count, group.features)

    def start(self, reference: str, value: Expression) -> Name:
        """The variable that generation changes, with its first value."""
        name = self.frame.keep(("x", reference), self.name_of(reference), value)
        for group in self.groups(reference):
            self.inputs.tokens[group.trunk, group.name] = name
        return name

    def x(self, reference: str) -> Name:
        """The variable that generation changes."""
        return self.frame.local(("x", reference), self.name_of(reference))

    def name_of(self, reference: str) -> str:
        return self.frame.name_of(self.query.segments[reference])

    def output(self, reference: str) -> Expression:
        """What the head puts out; under guidance the same for both halves of the batch."""
        group = self.groups(reference)[0]
        output = self.writer.output(group)
        output = added(self.frame, self.generate(reference), group, output)
        if not self.query.guidance:
            return output
        scale = self.query.guidance.get(self.query.segments[reference].stream, 1)
        return Block("guided")(output, number(scale))

    def settle(self, reference: str) -> None:
        """The segment stands."""
        self.frame.predicted(self.groups(reference)[0], self.x(reference))
        self.query.known.add(reference)
