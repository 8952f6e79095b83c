"""The plan of a model, put together from its parts."""

from __future__ import annotations

import os
from collections.abc import Mapping

from wmdsl.check.model import Model
from wmdsl.diagnostics import Diagnostics
from wmdsl.plan.answers import answer
from wmdsl.plan.asked import canonical, declared, is_policy
from wmdsl.plan.chain import live_spaces
from wmdsl.plan.costs import with_costs
from wmdsl.plan.differences import differences, notes
from wmdsl.plan.edges import edges_of
from wmdsl.plan.factors import factorisation
from wmdsl.plan.findings import findings
from wmdsl.plan.flow import Flow
from wmdsl.plan.layouts import layout_masks
from wmdsl.plan.nodes import Mask, Pass, Plan, QueryPlan
from wmdsl.plan.paradigm import paradigm_of
from wmdsl.plan.parameters import count_parameters
from wmdsl.plan.ranges import Row, most_ranges, pairs, shifted
from wmdsl.plan.reach import aligned, predicted
from wmdsl.plan.stages import stage_plans
from wmdsl.plan.trainings import trainings
from wmdsl.plan.verify import verify
from wmdsl.plan.work import training_flops


def build_plan(model: Model, diagnostics: Diagnostics) -> Plan:
    """Everything that follows from a checked model, its mistakes included."""
    flow, answers = judge(model, diagnostics)
    queries = {name: with_costs(flow, found) for name, found in answers.items()}
    usual = {asked.name: with_costs(flow, answer(flow, asked)) for asked in canonical(model)}
    policy = policy_query(flow, queries, usual)
    train = training_pass(flow)
    parameters = count_parameters(model)
    taught = trainings(model, train)
    plan = Plan(
        model=model,
        train=train,
        trainings=taught,
        edges=edges_of(flow, policy),
        masks={**_masks(train, queries), **layout_masks(model, flow.spaces)},
        parameters=parameters,
        train_flops=sum(training_flops(model, one.evaluation, one.predicted) for one in taught),
        paradigm=paradigm_of(flow, policy),
        factorisation=factorisation(flow),
        stages=stage_plans(model, parameters),
        queries=queries,
        canonical_queries=usual,
        differences=differences(flow, queries),
        notes=notes(model, queries),
    )
    if os.environ.get("WMDSL_VERIFY") == "1":
        verify(plan)
    return plan


def judge(model: Model, diagnostics: Diagnostics) -> tuple[Flow, Mapping[str, QueryPlan]]:
    """The graph and the answers to the declared queries, without costs.

    Queries without an answer and assertions that do not hold become errors.
    """
    flow = Flow.of(model)
    answers = {query.name: answer(flow, declared(query)) for query in model.queries.values()}
    for found in findings(flow, answers):
        diagnostics.add(found)
    return flow, answers


def policy_query(
    flow: Flow, queries: Mapping[str, QueryPlan], usual: Mapping[str, QueryPlan]
) -> QueryPlan:
    """The first declared question that seeks an action given no future; else the canonical one."""
    for query in flow.model.queries.values():
        if is_policy(flow.model, declared(query)) and queries[query.name].chain:
            return queries[query.name]
    return usual["policy"]


def training_pass(flow: Flow) -> Pass:
    """All groups of all spaces that some loss reads."""
    losses = [predicted(reference) for reference in flow.generates]
    losses += [aligned(name) for name in flow.model.aligns]
    closure = flow.graph.before(losses)
    needed = {(space.name, space.time): space.layers for space in live_spaces(flow, closure)}
    spaces = tuple(space for space in flow.spaces if (space.name, space.time) in needed)
    return Pass("train", spaces, flow.roles)


def _masks(train: Pass, queries: Mapping[str, QueryPlan]) -> Mapping[str, Mask]:
    masks = {"train": mask_of([train])} if train.spaces else {}
    for name, query in queries.items():
        if any(step.evaluation.spaces for step in query.chain):
            masks[name] = mask_of([step.evaluation for step in query.chain])
    return masks


def mask_of(passes: list[Pass]) -> Mask:
    """The spaces of the passes one behind the other, as one block-diagonal mask."""
    rows: list[Row] = []
    tokens = 0
    for space in (space for evaluation in passes for space in evaluation.spaces):
        rows += shifted(space.ranges, tokens)
        tokens += space.tokens
    whole = tuple(rows)  # canonical: no key is seen from two spaces
    return Mask(tokens, pairs(whole) / tokens**2, most_ranges(whole), whole, ())
