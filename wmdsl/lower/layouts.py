"""Layouts in training: copies noised again, masks over numbers drawn at every step, and the sum.

Each layout is a method of its own over the whole batch; the loss is their mean by share, which is
what drawing a layout for each sample gives on average, without its noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

from wmdsl.check.model import Condition, Generate, Rule, TokenGroup
from wmdsl.lower.context import Context, number
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import GENERATOR, LIKE, SIZE, Frame
from wmdsl.lower.inputs import Inputs
from wmdsl.lower.objectives import shifted
from wmdsl.lower.program import (
    Binary,
    Block,
    Body,
    Expression,
    Method,
    Name,
    Parameter,
    expression,
    joined,
    me,
    of,
    torch,
)
from wmdsl.plan.layouts import layout_attend
from wmdsl.plan.masks import places
from wmdsl.plan.nodes import Drawn, Placed, Renoised, Space, Training
from wmdsl.plan.ranges import merged
from wmdsl.plan.spaces import token_sources
from wmdsl.syntax import ast

SEEN, ORDER = Name("seen"), Name("order")
PYTHON = {"/": "//"}  # order keys round down


def check_runs(context: Context, training: Training) -> None:
    """Refuse what has no lowering in a layout."""
    model = context.model
    layout = model.layouts[training.name]
    trunk = model.trunks[layout.trunk]
    roles = training.evaluation.roles
    for space in training.evaluation.spaces:
        for placed in space.groups:
            trained = context.plan.train.roles[placed.group.trunk, placed.group.base]
            if trained in ("placeholder", "masked") and roles[placed.key] == "clean":
                what = f"{placed.group.base} is given in layout {layout.name}, but has no way in"
                raise Unsupported(what, layout.span)
            whole = model.trunks[placed.group.trunk].group(placed.group.base)
            cut = whole is not None and placed.group.count < whole.count
            if cut and placed.group.base in training.predicted:
                raise Unsupported("a slice cannot be predicted", layout.span)
    if not layout.copies:
        return
    if not training.copy:
        what = f"which copy of layout {layout.name} predicts: no other token must see just one"
        raise Unsupported(what, layout.span)
    if trunk.told == "all" or any(map(_picks, _conditions(context, trunk.name))):
        what = "copies need `told own`, and conditions of all of the trunk's tokens"
        raise Unsupported(what, layout.span)
    if any(source.trunk == trunk.name for source in token_sources(model)):
        raise Unsupported(f"a coupling reads {trunk.name}, which has copies", layout.span)


def _conditions(context: Context, trunk: str) -> list[Condition]:
    return [c for c in context.model.conditions.values() if c.trunk == trunk]


def _picks(condition: Condition) -> bool:
    """Whether a condition is about some tokens of its trunk more than others."""
    return bool(condition.target_groups) or condition.mechanisms[0] not in ("adaln", "film")


# Copies of the data that are noised again.


def noise_again(frame: Frame, inputs: Inputs, training: Training) -> None:
    """The tokens, and the times, of copies that are not quite clean."""
    for renoised in training.renoised:
        names = ", ".join(name for _, name in renoised.groups)
        frame.body.section(f"{names}: noised again in {float(renoised.chance):g} of the samples",
                           renoised.span)  # fmt: skip
        chance = Block("sometimes")((SIZE, 1), number(renoised.chance), LIKE, GENERATOR)
        again = frame.keep(("again", renoised.groups), "again", chance)
        _noise_groups(frame, inputs, training, renoised, again)


def _noise_groups(
    frame: Frame, inputs: Inputs, training: Training, renoised: Renoised, again: Name
) -> None:
    shared: dict[str, Name] = {}
    for group in _groups(training, renoised):
        generate = _generate(frame.context, group, renoised)
        per_frame = generate.times == "per_frame"
        copy = group.name.replace(".", "_")
        if per_frame or group.segment.stream not in shared:
            shape = SIZE, group.frames if per_frame else 1
            draw = Block("uniform")(
                shape, number(renoised.low), number(renoised.high), LIKE, GENERATOR
            )
            time = frame.keep(("time", group.name), f"{copy}_time", again * shifted(generate, draw))
            shared[group.segment.stream] = time
        time = shared[group.segment.stream]
        tokens = frame.tokens(group.segment, group.codec)
        noise = frame.normal(of(tokens, "shape"))
        noise = frame.keep(("noise", group.name), f"{copy}_noise", noise)
        each = of(time, "repeat_interleave")(group.per_frame, dim=1) if per_frame else time
        path = of(torch, "lerp")(tokens, noise, each[..., None])
        noisy = frame.keep(("noisy", group.name), f"{copy}_noisy", path)
        inputs.tokens[group.trunk, group.name] = noisy
        inputs.times[group.name] = time
        if per_frame:
            inputs.per_frame.add(group.name)


def _groups(training: Training, renoised: Renoised) -> Iterator[TokenGroup]:
    for space in training.evaluation.spaces:
        yield from (p.group for p in space.groups if p.key in renoised.groups)


def _generate(context: Context, group: TokenGroup, renoised: Renoised) -> Generate:
    """The generate whose path and shift the group's stream follows."""
    for generate in context.model.generates.values():
        streams = {segment.stream for segment in generate.segments}
        if group.segment.stream in streams and generate.objective == "flow":
            return generate
    what = f"{group.name} is noised again, but its stream is not generated by flow"
    raise Unsupported(what, renoised.span)


# Masks over drawn numbers.


def draw_masks(frame: Frame, inputs: Inputs, training: Training) -> None:
    """Draw the numbers of the layout, and from them the mask of its space."""
    context, model = frame.context, frame.context.model
    mask = context.plan.masks.get(training.name)
    used = [drawn for drawn in training.drawn if mask and drawn.name in mask.runtime]
    if not used:
        return
    frame.body.section("numbers drawn at every step", training.span)
    names = []
    for drawn in used:
        value = Block("whole_number")(drawn.low, drawn.high, LIKE, GENERATOR)
        names.append(frame.keep(("drawn", drawn.name), drawn.name, value))
    trunk = model.layouts[training.name].trunk
    space = next(s for s in training.evaluation.spaces if trunk in s.trunks)
    method = _MaskWriter(context, training, space, used).method()
    context.methods["mask", training.name] = method
    schedule = of(me, method.name)(*names)
    inputs.schedules[space.name] = frame.keep(("mask", space.name), "schedule", schedule)


class _MaskWriter:
    """A method from drawn numbers to the mask of a layout's space.

    The mask is over runs of tokens: a frame where the order key is that of the frame, else a token.
    """

    def __init__(
        self, context: Context, training: Training, space: Space, drawn: Sequence[Drawn]
    ):
        self.context = context
        self.training = training
        self.space = space
        self.drawn = drawn
        self.body = Body()
        attend = context.model.declarations[f"attend {training.name}"]
        self.attend = layout_attend(context.model, space, space.groups, attend)
        self.orders: dict[str, Name] = {}
        lengths = {placed.group.base: self._run(placed.group) for placed in space.groups[::-1]}
        self.runs = [lengths[placed.group.base] for placed in space.groups]
        self.known = {"q": Name("q"), "k": Name("k")}

    def method(self) -> Method:
        """The whole method."""
        wanted = f"mask_{self.training.name}"
        name = self.context.attributes.of(("mask", self.training.name), wanted)
        self.body.section("the order of the tokens")
        for placed, run in zip(self.space.groups, self.runs, strict=True):
            self._order(placed, run)
        keys = [self.orders[placed.group.base] for placed in self.space.groups]
        self.body.assign(ORDER, joined(keys, 0))
        total = sum(self._counts())
        self.body.assign(SEEN, of(torch, "zeros")(total, total, dtype=of(torch, "bool")))
        for rule in self.attend.rules:
            self._rule(rule)
        lengths = tuple(zip(self._counts(), self.runs, strict=True))
        self.body.give_back(Block("schedule_of")(SEEN, lengths))
        parameters = (Parameter("self", ""), *(Parameter(one.name, "int") for one in self.drawn))
        doc = f"Who sees whom in layout {self.training.name}, for the numbers drawn."
        statements = self.body.statements
        return Method(name, parameters, "Schedule", doc, statements, span=self.attend.span)

    def _order_of(self, group: TokenGroup) -> ast.Order | None:
        orders = (o for o in self.attend.orders if o.subject.dotted in _names(group))
        return next(orders, None)

    def _run(self, group: TokenGroup) -> int:
        """How many tokens in a row share their order key, whatever is drawn."""
        order = self._order_of(group)
        by_frame = order is not None and _used(order.key) <= {"frame", "step"}
        return group.per_frame if by_frame else 1

    def _counts(self) -> list[int]:
        """How many runs each group has."""
        pairs = zip(self.space.groups, self.runs, strict=True)
        return [placed.group.count // run for placed, run in pairs]

    def _order(self, placed: Placed, run: int) -> None:
        """The order key of each run of a group; copies of a group share it."""
        base = placed.group.base
        if base in self.orders:
            return
        group = placed.group
        order = self._order_of(group)
        value = of(torch, "arange")(placed.start, placed.end)
        if order is not None:
            value = self._arithmetic(order.key, self._places(group, run))
        self.orders[base] = Name(base.replace(".", "_"))
        self.body.assign(self.orders[base], value, order.span if order else None)

    def _places(self, group: TokenGroup, run: int) -> Mapping[str, Expression]:
        """What an order key may use: a number for every run."""
        found = list(places(self.context.model, group))
        made: dict[str, Expression] = {"token": of(torch, "arange")(group.count)}
        for name in ("frame", "step"):
            samples = [place[name] for place in found[:: group.per_frame]]
            one = of(torch, "tensor")(samples)
            each = group.per_frame // run
            made[name] = of(one, "repeat_interleave")(each) if each > 1 else one
        for name in ("row", "column", "scale"):
            inside = [place[name] for place in found[: group.per_frame]]
            made[name] = of(of(torch, "tensor")(inside), "repeat")(group.frames)
        return made

    def _arithmetic(
        self, key: ast.Arithmetic, known: Mapping[str, Expression]
    ) -> Expression:
        if isinstance(key, ast.Binary):
            sides = self._arithmetic(key.left, known), self._arithmetic(key.right, known)
            return Binary(PYTHON.get(key.operator, key.operator), *sides)
        if isinstance(key, ast.Reference):
            return known[key.dotted]
        for drawn in self.drawn:
            if drawn.written == key.span:
                return Name(drawn.name)
        return number(key.value)

    def _rule(self, rule: Rule) -> None:
        self.body.section(" ".join(rule.span.text.split()), rule.span)
        for queries in self._runs(rule.subjects):
            for keys in self._runs(rule.objects):
                block = SEEN[queries, keys]
                if not rule.relations:
                    self.body.assign(block, True)
                    continue
                sides = ORDER[queries, None], ORDER[None, keys]
                self.body.assign(tuple(self.known.values()), sides)
                self.body.do(of(block, "logical_or_")(self._relations(rule)))

    def _runs(self, names: Sequence[tuple[str, str]]) -> list[slice]:
        """Where the runs of the groups of a side stand, neighbours together."""
        places = pairwise([0, *accumulate(self._counts())])
        pairs = zip(self.space.groups, places, strict=True)
        spans = merged(span for placed, span in pairs if placed.key in names)
        return [slice(*span) for span in spans]

    def _relations(self, rule: Rule) -> Expression:
        parts = [
            Binary(
                relation.operator,
                self._arithmetic(relation.left, self.known),
                self._arithmetic(relation.right, self.known),
            )
            for relation in rule.relations
        ]
        whole = parts[0]
        for part in parts[1:]:
            whole = Binary("&", whole, part)
        return whole


def _used(key: ast.Arithmetic) -> set[str]:
    """The names in an order key."""
    if isinstance(key, ast.Binary):
        return _used(key.left) | _used(key.right)
    return {key.dotted} if isinstance(key, ast.Reference) else set()


def _names(group: TokenGroup) -> tuple[str, str, str]:
    return group.name, group.segment.stream, group.segment.reference


# The sum.


def combined(
    context: Context, parts: Sequence[tuple[Training, Method, Sequence[str]]], template: Method
) -> Method:
    """`loss` over the layouts; `parts` are (layout, its method, names of its terms)."""
    body, sums, terms = Body(), [], {}
    counts = [name for _, _, names in parts for name in names]
    arguments = [Name(parameter.name) for parameter in template.parameters[1:]]
    for training, method, names in parts:
        result = Name(training.name)
        body.assign(result, of(me, method.name)(*arguments), training.span)
        share = number(training.share)
        sums.append(result["loss"] if training.share == 1 else share * result["loss"])
        for name in names:
            label = f"{name}.{training.name}" if counts.count(name) > 1 else name
            terms[label] = result[name]
    total = sums[0]
    for part in sums[1:]:
        total = total + part
    body.give_back(expression({"loss": total, **terms}))
    doc = "Loss terms of a batch in every layout; `loss` is the mean of the layouts by share."
    return Method("loss", template.parameters, template.returns, doc, body.statements)
