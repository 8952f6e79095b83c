"""Stages of training in the emitted class: which modules a stage trains."""

from __future__ import annotations

from wmdsl.check.model import Stage
from wmdsl.lower.context import Context
from wmdsl.lower.program import Body, Expression, Method, Name, Parameter, expression
from wmdsl.lower.setup import codec_module
from wmdsl.lower.spaces import cross_module
from wmdsl.plan.parameters import used_codecs
from wmdsl.plan.stages import Part, trained_parts

STAGE = Name("stage")
PARAMETER = Parameter("stage", "str", '""')


def trained_method(context: Context) -> tuple[Method, ...]:
    """`trained(stage)`: the modules of each part that the stage trains; none without stages."""
    stages = context.model.stages
    if not stages:
        return ()
    body = Body()
    parts = Name("parts")
    body.assign(parts, {name: _modules(context, stage) for name, stage in stages.items()})
    body.give_back(parts[STAGE])
    parameters = (Parameter("self", ""), Parameter("stage", "str"))
    doc = "What a stage trains: the modules of each part of the spec."
    returns = "dict[str, list[nn.Module]]"
    return (Method("trained", parameters, returns, doc, body.statements),)


def _modules(context: Context, stage: Stage) -> dict[str, Expression]:
    found: dict[str, Expression] = {}
    for part in trained_parts(context.model, stage):
        modules = _modules_of(context, part)
        if modules:
            found[part[1]] = expression(modules)
    return found


def _modules_of(context: Context, part: Part) -> list[Expression]:
    form, name = part
    model = context.model
    if form == "cross":
        cross = model.crosses[name]
        return [cross_module(context, cross, trunk) for trunk in cross.targets]
    if form == "codec" and not _has_weights(context, name):
        return []
    return [context.owned(form, name)]


def _has_weights(context: Context, name: str) -> bool:
    used = {codec.name: codec for codec in used_codecs(context.model)}
    return name in used and codec_module(context, used[name]) is not None
