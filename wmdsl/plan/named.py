"""Questions by name: those that a spec declares, then the four canonical ones.

A canonical question that a declared query asks already is answered by that query.
"""

from __future__ import annotations

from collections.abc import Mapping

from wmdsl.plan.nodes import Plan, QueryPlan

SHORT = {
    "passive": "passive_world_model",
    "controllable": "controllable_world_model",
    "inverse": "inverse_dynamics",
}


def questions(plan: Plan) -> Mapping[str, QueryPlan]:
    """Every name that can be asked, with its plan; a declared query hides what has its name."""
    found = dict(plan.queries)
    for name, question in plan.canonical_queries.items():
        found.setdefault(name, twin(plan, question) or question)
    for short, name in SHORT.items():
        found.setdefault(short, found[name])
    return found


def twin(plan: Plan, question: QueryPlan) -> QueryPlan | None:
    """The declared query that runs exactly what a canonical question would."""
    for query in plan.queries.values():
        if question.chain and query.chain == question.chain and query.sought == question.sought:
            return query
    return None
