"""Two methods per planner: what a foreseen candidate is worth, and the search itself."""

from __future__ import annotations

from wmdsl.check.model import Planner, Segment, Stream
from wmdsl.lower.codecs import direct, read
from wmdsl.lower.context import Context, number, place
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import BATCH, GENERATOR, LIKE, SIZE
from wmdsl.lower.program import Block, Body, Expression, Method, Name, Parameter, expression, me, of
from wmdsl.lower.queries import NO_GRAD, PARAMETERS, method_name
from wmdsl.plan.advance import Advance, NoRollOut, advance_of

SEEN, GOAL, WARM, JUDGE = Name("seen"), Name("goal"), Name("warm"), Name("judge")
LIMITS, START = Name("limits"), Name("start")
TENSORS = "dict[str, Tensor]"
SELF, QUESTION, DRAWS = PARAMETERS[:3]
SEARCHES = {
    "random": ("random_shooting", ()),
    "cem": ("elite_search", ("elites", "spread")),
    "mppi": ("path_integral", ("temperature", "spread")),
    "gradient": ("gradient_ascent", ("rate", "spread")),
}


def planner_methods(context: Context) -> list[Method]:
    """`worth_NAME` and `search_NAME` of every planner."""
    writers = [_writer(context, planner) for planner in context.model.planners.values()]
    return [method for writer in writers for method in (writer.worth(), writer.search())]


def _writer(context: Context, planner: Planner) -> _Chain | _Sequences:
    return (_Chain if planner.kind == "best_of" else _Sequences)(context, planner)


class _Planner:
    """What all kinds share: the value of what was foreseen."""

    def __init__(self, context: Context, planner: Planner):
        self.context, self.planner, self.model = context, planner, context.model
        self.queries = [context.plan.queries[name] for name in planner.queries]
        sought = {reference for query in self.queries for reference in query.sought}
        for segment in (*planner.score, *(segment for _, segment in planner.goal)):
            if segment.reference not in sought:
                message = f"planner {planner.name} scores {segment.reference}, which no query seeks"
                raise Unsupported(message, planner.span)

    def worth(self) -> Method:
        """The sum of the scores and of how near each goal is."""
        body = Body()
        first, *rest = [
            *(self._scored(segment) for segment in self.planner.score),
            *(self._nearness(body, codec, segment) for codec, segment in self.planner.goal),
        ]
        for term in rest:
            first = first + term
        body.give_back(first)
        parameters = (SELF, Parameter("seen", TENSORS), Parameter("goal", TENSORS))
        doc = f"What each future [B, chunks, F, ...] is worth to planner {self.planner.name} [B]."
        return Method(
            f"worth_{self.planner.name}", parameters, "Tensor", doc, body.statements,
            span=self.planner.span,
        )  # fmt: skip

    def _scored(self, segment: Segment) -> Expression:
        return of(of(SEEN[segment.stream], "flatten")(1), "mean")(dim=1)

    def _nearness(self, body: Body, codec: str | None, segment: Segment) -> Expression:
        """How near a goal is, in normalised numbers or features of a codec."""
        stream = self.model.streams[segment.stream]
        foreseen, aim = Name(stream.name), Name(f"{stream.name}_goal")
        body.assign(foreseen, SEEN[stream.name][:, :, self._arrives(stream)])
        asked = Block("samples")(GOAL, stream.name, 1, 1, stream.shape, place(stream.span))
        body.assign(aim, asked)
        for name in (foreseen, aim) if stream.normalise != "none" else ():
            body.assign(name, self._normalised(stream, name))
        found = self.model.codecs.get(codec) if codec else None
        if found is not None and not direct(found):
            owned = self.context.owned("codec", found.name)
            body.assign(foreseen, read(self.context, segment, found, owned, foreseen))
            body.assign(aim, read(self.context, segment, found, owned, aim))
        return Block("nearness")(foreseen, aim)

    def _normalised(self, stream: Stream, raw: Expression) -> Expression:
        if stream.normalise == "unit":
            return 2 * raw - 1
        mean, scale = (of(me, f"{stream.name}_{part}") for part in ("mean", "scale"))
        return (raw - mean) / scale

    def _arrives(self, stream: Stream) -> int:
        return -1

    def _method(self, doc: str, body: Body, *more: Parameter) -> Method:
        goal = Parameter("goal", f"{TENSORS} | None", "None")
        parameters = (SELF, QUESTION, goal, DRAWS, *more)
        return Method(
            f"search_{self.planner.name}", parameters, TENSORS, doc, body.statements,
            decorator=NO_GRAD, span=self.planner.span,
        )  # fmt: skip


class _Chain(_Planner):
    """best_of: whole chains of answers are drawn and the best is kept."""

    def search(self) -> Method:
        """One call of a block."""
        planner, body = self.planner, Body()
        asked = tuple(of(me, method_name(query)) for query in self.queries)
        body.give_back(
            Block("best_of")(
                asked, of(me, f"worth_{planner.name}"), BATCH, GOAL.or_({}), self._known(),
                planner.attributes["samples"], GENERATOR,
            )
        )  # fmt: skip
        names = ", ".join(planner.queries)
        doc = f"The best of {planner.attributes['samples']} answers to {names}, by its score."
        return self._method(doc, body)

    def _known(self) -> dict[str, int]:
        """Observed samples of the streams that the queries answer."""
        streams = {ref.partition(".")[0] for query in self.queries for ref in query.sought}
        counts = {name: self._observed(self.model.streams[name]) for name in sorted(streams)}
        return {name: count for name, count in counts.items() if count}

    def _observed(self, stream: Stream) -> int:
        return sum(len(segment.offsets) for segment in stream.segments if segment.observed)


class _Sequences(_Planner):
    """Searches over sequences of actions, foreseen chunk by chunk by one query."""

    def __init__(self, context: Context, planner: Planner):
        super().__init__(context, planner)
        if len(self.queries) != 1:
            message = f"planner {planner.name} of kind {planner.kind} asks one query"
            raise Unsupported(message, planner.span)
        self.advance = self._advance()

    def _advance(self) -> Advance:
        try:
            return advance_of(self.model, self.queries[0])
        except NoRollOut as reason:
            message = f"planner {self.planner.name} cannot look ahead: {reason}"
            raise Unsupported(message, self.planner.span) from None

    def _arrives(self, stream: Stream) -> int:
        if stream.name not in self.advance.arrives:
            message = f"{stream.name} is not predicted at the end of a chunk"
            raise Unsupported(message, self.planner.span)
        return self.advance.arrives[stream.name]

    def search(self) -> Method:
        """Where to begin, how to judge, which search."""
        planner, advance, body = self.planner, self.advance, Body()
        values = planner.attributes
        steps = values["chunks"] * advance.steps
        body.assign(JUDGE, self._judge())
        bounds = number(values["low"]), number(values["high"])
        body.assign(LIMITS, Block("Range")(*bounds, planner.hold, steps))
        body.assign(START, self._start(body, steps))
        block, options = SEARCHES[planner.kind]
        body.give_back(
            Block(block)(
                JUDGE, Block("starts")(WARM, START), LIMITS, values["samples"], values["rounds"],
                *(number(values[name]) for name in options), GENERATOR,
            )
        )  # fmt: skip
        return self._method(self._doc(steps), body, Parameter("warm", "Tensor | None", "None"))

    def _judge(self) -> Expression:
        planner, advance = self.planner, self.advance
        ask = of(me, method_name(self.queries[0]))
        if planner.kind == "gradient":
            ask = Block("attached")(ask)
        return Block("Judge")(
            ask, of(me, f"worth_{planner.name}"), advance.action, dict(advance.places),
            planner.attributes["chunks"], BATCH, GOAL.or_({}),
        )  # fmt: skip

    def _start(self, body: Body, steps: int) -> Expression:
        """The actions of the prior, or the middle of the range."""
        planner, advance = self.planner, self.advance
        if planner.prior:
            query = self.context.plan.queries[planner.prior]
            answer = of(me, method_name(query))(BATCH, GENERATOR)[advance.action]
            return Block("lengthened")(answer, steps)
        values, shape = planner.attributes, self.model.streams[advance.action].shape
        given = self.queries[0].given[0].partition(".")[0]
        body.assign(LIKE, Name("next")(of(me, "parameters")()))
        body.assign(SIZE, Name("len")(BATCH[given]))
        middle = (values["low"] + values["high"]) / 2
        return of(LIKE, "new_full")(expression((SIZE, steps, *shape)), number(middle))

    def _doc(self, steps: int) -> str:
        planner, advance = self.planner, self.advance
        lines = [
            f"{steps} steps of {advance.action} by {planner.kind}, foreseen by {advance.query}; "
            "`warm` is an earlier plan to begin at."
        ]
        if advance.held:
            lines.append(f"Held as last seen: {', '.join(advance.held)}.")
        return "\n".join(lines)
