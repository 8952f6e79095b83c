"""Plan -> Program."""

from __future__ import annotations

from wmdsl.diagnostics import Diagnostics
from wmdsl.lower.codecs import direct
from wmdsl.lower.context import Context, number
from wmdsl.lower.densities import density_methods
from wmdsl.lower.errors import Unsupported, cannot_run, nothing_to_train
from wmdsl.lower.header import header
from wmdsl.lower.loss import loss_methods
from wmdsl.lower.names import class_name
from wmdsl.lower.planners import planner_methods
from wmdsl.lower.program import Block, Body, Method, Parameter, Program
from wmdsl.lower.queries import NO_GRAD, query_methods
from wmdsl.lower.questions import emitted
from wmdsl.lower.setup import constructor
from wmdsl.lower.stages import trained_method
from wmdsl.plan.nodes import Plan


def lower(plan: Plan, diagnostics: Diagnostics, densities: bool = False) -> Program | None:
    """The target program; None with an error for each part of the spec that cannot run yet.

    With `densities` it has the log-densities of queries instead of losses and queries.
    """
    for missing in plan.model.unrunnable:
        diagnostics.add(cannot_run(missing.code, f"{missing.what} cannot run yet", missing.span))
    if diagnostics.has_errors:
        return None
    if not (plan.model.generates or plan.model.aligns):
        diagnostics.add(nothing_to_train(plan.model.name))
        return None
    try:
        context = Context(plan, emitted(plan))
        return _densities(context) if densities else _program(context)
    except Unsupported as found:
        diagnostics.add(cannot_run("WM811", str(found), found.span))
        return None


def _program(context: Context) -> Program:
    model = context.model
    setup, loss, queries = constructor(context), loss_methods(context), query_methods(context)
    training = (*trained_method(context), *_after_step(context))
    searches = planner_methods(context)
    return Program(
        title=f"{class_name(model.name)}: {context.plan.factorisation}",
        header=header(context.plan),
        constants=tuple(context.schedules.values()),
        class_name=class_name(model.name),
        doc=f"The model `{model.name}`.",
        methods=(setup, *context.methods.values(), *loss, *training, *queries, *searches),
    )


def _densities(context: Context) -> Program:
    model = context.model
    setup, densities = constructor(context), density_methods(context)
    return Program(
        title=f"{class_name(model.name)}: log-densities of {context.plan.factorisation}",
        header=header(context.plan),
        constants=tuple(context.schedules.values()),
        class_name=class_name(model.name),
        doc=f"The model `{model.name}`, asked how likely recorded answers are.",
        methods=(setup, *context.methods.values(), *densities),
    )


def _after_step(context: Context) -> tuple[Method, ...]:
    """Teachers that average their students, moved after each optimizer step."""
    body = Body()
    for align in context.model.aligns.values():
        codec = context.model.codecs.get(align.target_codec)
        if align.teacher.name == "ema" and codec is not None and not direct(codec):
            teacher, student = (
                context.owned("teacher", align.name),
                context.owned("codec", codec.name),
            )
            rate = number(align.teacher.arguments[0])
            body.do(Block("follow")(teacher, student, rate), align.span)
    if not body.statements:
        return ()
    doc = "Move the teachers; call it after each optimizer step."
    parameters = (Parameter("self", ""),)
    return (Method("after_step", parameters, "None", doc, body.statements, decorator=NO_GRAD),)
