"""One method per declared query: read the givens, generate along the chain, give back."""

from __future__ import annotations

from wmdsl.lower.codecs import EMBODIMENT
from wmdsl.lower.context import Context
from wmdsl.lower.denoising import STEPS
from wmdsl.lower.frame import BATCH, CLEAN, GENERATOR, LIKE, SIZE
from wmdsl.lower.generation import Question
from wmdsl.lower.generators import generator_of
from wmdsl.lower.header import names
from wmdsl.lower.loss import times_needed
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
)
from wmdsl.plan.named import questions
from wmdsl.plan.nodes import QueryPlan

PARAMETERS = (
    Parameter("self", ""),
    Parameter("batch", "dict[str, Tensor]"),
    Parameter("generator", "Generator | None", "None"),
    Parameter("steps", "int | None", "None"),
)
NO_GRAD = "torch.no_grad()"


def query_methods(context: Context) -> list[Method]:
    """A method for every question, then the one that chooses among them by any of its names."""
    methods = [query_method(context, question) for question in context.questions]
    table = {
        name: of(me, method_name(question))
        for name, question in questions(context.plan).items()
        if question in context.questions
    }
    ask = Block("chosen")(Name("name"), expression(table))
    draws = Parameter("draws", "int", "1")
    parameters = (PARAMETERS[0], Parameter("name", "str"), *PARAMETERS[1:], draws)
    body = Body()
    body.give_back(ask(Block("several")(BATCH, Name(draws.name)), GENERATOR, STEPS))
    doc = (
        "The answer to a query, by name; `steps` overrides those of the spec.\n"
        "With `draws`, so many answers to each sample in a row [B * draws, ...]."
    )
    chooser = Method("query", parameters, "dict[str, Tensor]", doc, body.statements)
    return [*methods, chooser]


def query_method(context: Context, question: QueryPlan) -> Method:
    """The method that answers one question."""
    return _Query(context, question).method()


def method_name(question: QueryPlan) -> str:
    return f"query_{question.name}"


class _Query:
    """One query as a method."""

    def __init__(self, context: Context, plan: QueryPlan):
        self.plan = plan
        self.query = Question.of(context, plan)
        self.frame = self.query.frame

    def method(self) -> Method:
        """The whole method."""
        frame = self.frame
        frame.read(self.query.givens(), complete=False)
        frame.begin()
        if times_needed(self.query.context):
            frame.body.assign(CLEAN, of(LIKE, "new_zeros")(SIZE, 1))
        for index, generation in enumerate(self.plan.chain):
            generator_of(self.query, generation, f"{self.plan.name}{index or ''}").write()
        frame.body.give_back(expression(self._answers()))
        return Method(
            name=method_name(self.plan),
            parameters=PARAMETERS,
            returns="dict[str, Tensor]",
            doc=self._doc(),
            body=frame.body.pruned(EMBODIMENT, CLEAN, SIZE, LIKE),
            decorator=NO_GRAD,
            span=self.query.span,
        )

    def _doc(self) -> str:
        sought, given = (names(self.query.model, n) for n in (self.plan.sought, self.plan.given))
        dropped = [f"{entry.what}: {entry.how.replace('_', ' ')}" for entry in self.plan.dropped]
        return "\n".join([f"{sought} given {given} ({self.plan.answerable}).", *dropped])

    def _answers(self) -> dict[str, Expression]:
        """What is sought, in raw units, by stream; foreseen features by their align."""
        answers = {}
        for reference in self.plan.sought:
            if reference in self.query.foreseen:
                answers |= self.query.foreseen[reference]
                continue
            segment = self.query.segments[reference]
            name = reference if segment.stream in answers else segment.stream
            noisy = any(reference in step.left for step in self.plan.chain)
            value = self.frame.raw(segment, noisy)
            answers[name] = of(value, "chunk")(2)[0] if self.query.guidance else value
        return answers
