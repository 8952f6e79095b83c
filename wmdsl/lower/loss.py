"""`loss`: the training pass and its terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from wmdsl.check.codecs import TIME
from wmdsl.check.model import Align, Generate, Hand, Segment
from wmdsl.lower.codecs import EMBODIMENT, direct
from wmdsl.lower.context import Context, number
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import BATCH, CLEAN, LIKE, SIZE, Frame
from wmdsl.lower.inputs import Inputs
from wmdsl.lower.layouts import check_runs, combined, draw_masks, noise_again
from wmdsl.lower.objectives import Trainer, groups_of, held, tokens_read, valid
from wmdsl.lower.passes import PassWriter
from wmdsl.lower.program import (
    Block,
    Expression,
    Method,
    Name,
    Parameter,
    expression,
    of,
    torch,
)
from wmdsl.lower.setup import COPIED
from wmdsl.lower.spaces import TIMED
from wmdsl.lower.stages import PARAMETER as STAGE_PARAMETER
from wmdsl.lower.stages import STAGE
from wmdsl.plan.nodes import Space, Training
from wmdsl.plan.sources import data_sources, factors
from wmdsl.plan.spaces import draws, token_sources
from wmdsl.plan.stages import terms_in_force

PARAMETERS = (
    Parameter("self", ""),
    Parameter("batch", "dict[str, Tensor]"),
    Parameter("generator", "Generator | None", "None"),
)


def loss_methods(context: Context) -> list[Method]:
    """`loss(batch, generator=None)`; with layouts behind the methods that it calls."""
    trainings = context.plan.trainings
    if not context.model.layouts:
        return [_Loss(context, trainings[0]).method()]
    predicted = {reference for training in trainings for reference in training.predicted}
    for generate in context.model.generates.values():
        if not any(segment.reference in predicted for segment in generate.segments):
            raise Unsupported(f"no layout predicts what {generate.name} generates", generate.span)
    parts = []
    for training in trainings:
        check_runs(context, training)
        loss = _Loss(context, training)
        parts.append((training, loss.method(), tuple(loss.terms)))
    methods = [method for _, method, _ in parts]
    return [*methods, combined(context, parts, methods[0])]


def times_needed(context: Context) -> bool:
    """Whether any trunk, or any condition, is told noise levels."""
    told = any(trunk.kind in TIMED for trunk in context.model.trunks.values())
    return told or any(source.codec == TIME for source in token_sources(context.model))


class _Loss:
    def __init__(self, context: Context, training: Training):
        self.context = context
        self.training = training
        self.train = training.evaluation
        self.model = context.model
        self.frame = Frame(context)
        self.inputs = Inputs()
        self.trainers = {
            generate.name: Trainer(self.frame, generate, self.inputs)
            for generate in map(self._predicted, self.model.generates.values())
            if generate.segments
        }
        self.terms: dict[str, tuple[object, Expression]] = {}

    def method(self) -> Method:
        """The whole method."""
        frame = self.frame
        frame.read(self._segments(), complete=True)
        frame.begin()
        if times_needed(self.context):
            frame.body.assign(CLEAN, of(LIKE, "new_zeros")(SIZE, 1))
        for trainer in self.trainers.values():
            frame.body.section(_what(trainer.generate), trainer.generate.span)
            trainer.prepare()
        self._choose_samples()
        noise_again(frame, self.inputs, self.training)
        draw_masks(frame, self.inputs, self.training)
        self._run()
        for trainer in self.trainers.values():
            self._term(trainer.generate.name, trainer.generate.weight, trainer)
        for align in self.model.aligns.values():
            self._align(align)
        self._total()
        doc = "Loss terms of a batch; `loss` is their weighted sum."
        parameters = PARAMETERS
        if self.model.stages:
            doc = "Loss terms of a batch; `loss` is the weighted sum of those in force in a stage."
            parameters = (*PARAMETERS, STAGE_PARAMETER)
        returns = "dict[str, Tensor]"
        statements = frame.body.pruned(EMBODIMENT, CLEAN, SIZE, LIKE)
        return Method(self._name(), parameters, returns, doc, statements)

    def _choose_samples(self) -> None:
        """Only samples of the layout's data sources count in its errors."""
        if not self.training.data:
            return
        names = ", ".join(self.training.data)
        guarded = [align for align in self.model.aligns.values() if align.guard is not None]
        masked = [hand for hand in self.model.hands.values() if hand.mask != "none"]
        for blunt in (*guarded, *masked):
            what = f"{blunt.name} counts every sample, layout {self.training.name} those of {names}"
            raise Unsupported(what, blunt.span)
        named = data_sources(self.model)
        numbers = tuple(number(named.index(name)) for name in self.training.data)
        self.frame.body.section(f"only samples of {names} count", self.training.span)
        call = Block("from_sources")(BATCH, numbers, SIZE, LIKE)
        self.frame.samples = self.frame.keep(("samples",), "counted", call)

    def _name(self) -> str:
        """`loss`, or `loss_LAYOUT`."""
        layout = self.training.name
        return self.context.attributes.of(("loss", layout), f"loss_{layout}") if layout else "loss"

    def _predicted(self, generate: Generate) -> Generate:
        """The generate with the segments that this pass predicts."""
        kept = [part for part in generate.segments if part.reference in self.training.predicted]
        names = {segment.reference for segment in kept}
        groups = tuple(name for name in generate.groups if name[1] in names)
        return replace(generate, segments=tuple(kept), groups=groups)

    def _segments(self) -> list[Segment]:
        """Everything the training pass reads."""
        found = {}
        for space in self.train.spaces:
            for placed in space.groups:
                if self.train.roles[placed.key] not in ("learned", "prefix"):
                    found[placed.group.segment.reference] = placed.group.segment
        for coupling in (*self.model.crosses.values(), *self.model.conditions.values()):
            for source in coupling.sources:
                if source.segment is not None:
                    found[source.segment.reference] = source.segment
        for align in self.model.aligns.values():
            found[align.target.reference] = align.target
        return list(found.values())

    def _run(self) -> None:
        name = self.train.name
        writer = PassWriter(self.frame, self.train, self.inputs, name, self.training.copy)
        self.writer = writer
        for space in self.train.spaces:
            self.frame.body.section(_space_title(space), self._span(space))
            self._hold(space)
            self._hand_over(space)
            count = self._draws(space)
            if count == 1:
                writer.write_space(space, name)
            else:
                writer.write_draws(space, name, count)

    def _draws(self, space: Space) -> int:
        """Noises of each sample; what has several is read by its own heads alone."""
        count = draws(self.model, space)
        if count == 1:
            return count
        generates = [
            generate
            for generate in self.model.generates.values()
            if any(trunk in space.trunks for trunk, _ in generate.groups)
        ]
        handed = {hand.segment for hand in self.model.hands.values() if hand.training != "truth"}
        for generate in generates:
            if generate.attributes.get("draws") != count:
                message = f"all that is generated in {space.name} needs {count} draws"
                raise Unsupported(message, generate.span)
            if handed & set(generate.segments):
                message = "a prediction of several draws cannot be handed over"
                raise Unsupported(message, generate.span)
        for source in token_sources(self.model):
            if source.trunk in space.trunks:
                message = f"{source.trunk} is read by others, so it has one draw"
                raise Unsupported(message, source.span)
        return count

    def _span(self, space: Space):
        join = self.model.joins.get(space.name)
        return (join or self.model.trunks[space.trunks[0]]).span

    def _hold(self, space: Space) -> None:
        """What a tap at a fixed time reads of the generated segments: the truth, noised anew."""
        if space.time is None:
            return
        for placed in space.groups:
            if self.train.roles[placed.key] != "noisy":
                continue
            segment = placed.group.segment
            key = segment.reference, space.time
            self.inputs.held[key] = self._held(segment, placed.group.codec, space.time)

    def _held(self, segment: Segment, codec: str, time) -> Expression:
        tokens = self.frame.tokens(segment, codec)
        generate = next(g for g in self.model.generates.values() if segment in g.segments)
        if time == 0:
            return tokens_read(generate, tokens)
        noise = self.frame.normal(of(tokens, "shape"))
        wanted = f"{self.frame.name_of(segment)}_held"
        if time == 1:
            return self.frame.keep(("held", segment.reference, time), wanted, noise)
        value = held(generate, tokens, noise, time)
        return self.frame.keep(("held", segment.reference, time), wanted, value)

    def _hand_over(self, space: Space) -> None:
        """Values that trunks of this space are handed: truth, or what the pass so far predicts."""
        for hand in self.model.hands.values():
            if hand.trunk in space.trunks:
                hand_over(self.frame, self.inputs, hand, self._handed(hand))
                if hand.mask != "none":
                    self._mask_term(hand)

    def _mask_term(self, hand: Hand) -> None:
        """The share of the pixels that a learned mask keeps."""
        kept = self.frame.local(("kept", hand.name), f"{hand.name}_kept")
        name = self.frame.keep(("loss", "mask", hand.name), f"{hand.name}_mask", of(kept, "mean")())
        self.terms[f"{hand.name}.mask"] = (hand.sparsity, name)

    def _handed(self, hand: Hand) -> Expression:
        if hand.training == "truth":
            return self.frame.value(hand.segment)
        trainer = next(t for t in self.trainers.values() if hand.segment in t.generate.segments)
        group = groups_of(self.context, trainer.generate, hand.segment)[0]
        from_tokens = trainer.estimate(self.writer, hand.segment)
        return self.frame.as_value(hand.segment, group.codec, from_tokens)

    def _term(self, name: str, weight: object, trainer: Trainer) -> None:
        self.frame.body.section(f"{name}: error", trainer.generate.span)
        value = self.frame.keep(("loss", name), name, trainer.error(self.writer))
        self.terms[name] = (weight, value)

    def _align(self, align: Align) -> None:
        """Projected source tokens against the teacher's features of the target."""
        frame = self.frame
        frame.body.section(
            f"{align.name}: distance to the {align.teacher.name} teacher", align.span
        )
        source = predicted_features(frame, align)
        target = self._target(align)
        call = self._distance(align, source, target)
        counted = valid(frame, align.target, align.target_codec)
        if align.distance == "cosine" and align.over == "token":
            counted = of(counted, "all")(dim=1, keepdim=True)
        counts = factors(self.model, align)
        if counts:
            names = ", ".join(data_sources(self.model))
            frame.body.section(f"{align.name}: samples of {names} count differently")
            numbers = tuple(number(count) for count in counts)
            call = Block("source_factors")(BATCH, SIZE, numbers, LIKE) * call
        error = Block("valid_mean")(call, counted)
        value = frame.keep(("loss", align.name), align.name, error)
        self.terms[align.name] = (align.weight, value)
        if align.guard is not None:
            wanted = f"{align.name}_guard"
            guard = frame.keep(("guard", align.name), wanted, Block(align.guard.name)(source))
            self.terms[f"{align.name}.guard"] = (align.guard.arguments[0], guard)

    def _distance(self, align: Align, source: Expression, target: Expression) -> Expression:
        if align.distance == "cosine":
            over = "features" if align.over == "feature" else "tokens"
            return Block(f"cosine_over_{over}")(source, target)
        if align.distance == "infonce":
            return Block("infonce")(source, target, number(align.temperature))
        return Block(align.distance)(source, target)

    def _target(self, align: Align) -> Expression:
        codec = self.model.codecs.get(align.target_codec)
        if codec is None:
            raise Unsupported("learned tokens are no target", align.span)
        if align.gradient:
            return self.frame.features(align.target, codec.name)
        name = self.frame.local(("target", align.name), f"{align.name}_target")
        if direct(codec):
            return self.frame.tokens(align.target, codec.name)
        own = align.teacher.name in COPIED
        module = self.context.owned(*(("teacher", align.name) if own else ("codec", codec.name)))
        self.frame.value(align.target)
        with self.frame.body.context(of(torch, "no_grad")()):
            encoded = self.frame.teach(codec, align.target, module)
            self.frame.body.assign(name, encoded)
        return name

    def _total(self) -> None:
        total = self._weighted_sum(self.terms)
        if self.model.stages:
            total = self._stage_totals(total)[STAGE]
        terms = {name: value for name, (_, value) in self.terms.items()}
        self.frame.body.give_back(expression({"loss": total, **terms}))

    def _weighted_sum(self, terms: Iterable[str]) -> Expression:
        chosen = [self.terms[name] for name in terms]
        if not chosen:
            return expression(0)  # a layout of which a stage trains nothing
        first, *others = (_weighted(number(weight), value) for weight, value in chosen)
        for part in others:
            first = first + part
        return first

    def _stage_totals(self, everything: Expression) -> Name:
        """The sum of each stage, and under "" that of all terms."""
        table = {"": everything}
        for name, stage in self.model.stages.items():
            force = terms_in_force(self.model, stage)
            table[name] = self._weighted_sum(term for term in self.terms if term in force)
        self.frame.body.section("the terms in force in each stage of training")
        return self.frame.keep(("totals",), "totals", expression(table))


def _weighted(weight: Expression, value: Expression) -> Expression:
    return value if weight == expression(1) else weight * value


def predicted_features(frame: Frame, align: Align) -> Expression:
    """What the tokens that an align reads say of its target: projected [B, T, C]."""
    source = frame.source(align.source)
    if align.projector != "none":
        source = frame.context.owned("align", align.name)(source)
    return frame.keep(("projected", align.name), f"{align.name}_predicted", source)


def hand_over(frame: Frame, inputs: Inputs, hand: Hand, value: Expression) -> None:
    """The receiver's group reads the handed value, masked where the hand learns a mask."""
    group = frame.context.model.trunks[hand.trunk].group(hand.segment.reference)
    frame.body.section(f"hand {hand.name}: {hand.segment.reference} -> {hand.trunk}", hand.span)
    if hand.mask != "none":
        mask = frame.context.owned("hand", hand.name)(value)
        value = frame.keep(("kept", hand.name), f"{hand.name}_kept", mask) * value
    features = frame.encoded(group.segment, group.codec, value, hand.name)
    inputs.features[group.trunk, group.name] = features


def _what(generate: Generate) -> str:
    names = ", ".join(segment.reference for segment in generate.segments)
    return f"{generate.name}: {names} by {generate.objective}"


def _space_title(space: Space) -> str:
    names = " and ".join(space.trunks)
    return names if space.time is None else f"{names}, read at time {float(space.time):g}"
