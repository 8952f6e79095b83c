"""Which questions get a method: every declared query, and the canonical ones beyond them."""

from __future__ import annotations

from wmdsl.check import errors
from wmdsl.diagnostics.diagnostic import Diagnostic
from wmdsl.lower.context import Context
from wmdsl.lower.densities import scorable
from wmdsl.lower.errors import Unsupported, cannot_run
from wmdsl.lower.queries import query_method
from wmdsl.plan.named import questions
from wmdsl.plan.nodes import Plan, QueryPlan


def emitted(plan: Plan) -> tuple[QueryPlan, ...]:
    """The questions to write, each once; a canonical one that cannot run yet is left out."""
    found = dict.fromkeys(question.name for question in questions(plan).values())
    named = {question.name: question for question in questions(plan).values()}
    return tuple(
        named[name]
        for name in found
        if named[name].declared or (named[name].chain and unsupported(plan, named[name]) is None)
    )


def unsupported(plan: Plan, question: QueryPlan) -> Unsupported | None:
    """Why an answerable question cannot be written yet; None where it can."""
    try:
        query_method(Context(plan, (*plan.queries.values(), question)), question)
    except Unsupported as found:
        return found
    return None


def refusal(plan: Plan, name: str) -> Diagnostic | None:
    """What the compiler says of a question that has no answer; None for a name it never heard."""
    question = questions(plan).get(name)
    if question is None:
        return None
    span = plan.model.span if name not in plan.queries else plan.model.queries[name].span
    if question.answerable == "no":
        return errors.queries.not_answerable(
            span, name, question.because, question.blamed, question.help
        )
    missing = unsupported(plan, question)
    return None if missing is None else cannot_run("WM811", str(missing), missing.span)


def density_refusal(plan: Plan, name: str) -> Diagnostic | None:
    """Why the answers to a question have no log-density; None where they have."""
    question = questions(plan)[name]
    span = plan.model.queries[question.name].span if question.declared else plan.model.span
    if question.density.answer == "no":
        return errors.queries.no_density(span, name, question.density.because)
    missing = scorable(Context(plan, (question,)), question)
    return None if missing is None else cannot_run("WM811", str(missing), missing.span)
