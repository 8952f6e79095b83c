"""Whether the tokens of a group see only themselves and those before."""

from __future__ import annotations

from wmdsl.check.model import Rule, TokenGroup, Trunk
from wmdsl.check.scope import Draft
from wmdsl.syntax import ast

Share = tuple[int, int]  # signs of q and k in a sum


def is_causal(draft: Draft, group: TokenGroup, trunk: Trunk) -> tuple[bool, Rule | None]:
    """(causal, the row that says otherwise); without a row, as the kind of the trunk has it."""
    name = (group.trunk, group.name)
    rules = [rule for attend in draft.attends.values() for rule in attend.rules]
    if not any(name in rule.subjects for rule in rules):
        return trunk.kind == "decoder" and not _joined(draft, trunk), None
    about = (rule for rule in rules if name in rule.subjects and name in rule.objects)
    wrong = next((rule for rule in about if not any(map(_looks_back, rule.relations))), None)
    return wrong is None, wrong


def _joined(draft: Draft, trunk: Trunk) -> bool:
    return any(join and trunk.name in join.trunks for join in draft.joins.values())


def _looks_back(relation: ast.Relation) -> bool:
    """`k <= q`, however it is turned."""
    left, right = _signs(relation.left), _signs(relation.right)
    q, k = left[0] - right[0], left[1] - right[1]
    match relation.operator:
        case "<" | "<=":
            return q < 0 < k
        case ">" | ">=":
            return k < 0 < q
    return False


def _signs(side: ast.Arithmetic) -> Share:
    """Signs with which q and k stand in a sum; factors are positive numbers."""
    if isinstance(side, ast.Reference):
        return int(side.dotted == "q"), int(side.dotted == "k")
    if isinstance(side, ast.Number):
        return 0, 0
    left, right = _signs(side.left), _signs(side.right)
    if side.operator == "-":
        right = (-right[0], -right[1])
    return left[0] + right[0], left[1] + right[1]
