"""Plans that break a rule are refused, rule by rule; two plans are compared."""

from dataclasses import replace

import pytest

from tests.front.plan.specs import ONE_TRUNK, POLICY, dropped, plan_of
from wmdsl.plan.compare import compare, comparison_text
from wmdsl.plan.nodes import Dropped, Plan, Space
from wmdsl.plan.ranges import Rows
from wmdsl.plan.verify import IllegalPlan, verify

FLOWS = "generate foresight: camera.future by flow\n generate act: action by flow"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(ONE_TRUNK, FLOWS, POLICY)


def with_space(plan: Plan, **changes) -> Plan:
    (space,) = plan.train.spaces
    return replace(plan, train=replace(plan.train, spaces=(replace(space, **changes),)))


def with_query(plan: Plan, **changes) -> Plan:
    return replace(plan, queries={"policy": replace(plan.queries["policy"], **changes)})


def shifted_groups(plan: Plan) -> Plan:
    (space,) = plan.train.spaces
    return with_space(plan, groups=tuple(replace(p, start=p.start + 1) for p in space.groups))


def other_rows_in_query(plan: Plan) -> Plan:
    (step,) = plan.queries["policy"].chain
    (space,) = step.evaluation.spaces
    blind: Space = replace(space, rows=Rows(lambda: ((0, space.tokens, 0, 1),)))
    changed = replace(step, evaluation=replace(step.evaluation, spaces=(blind,)))
    return with_query(plan, chain=(changed,))


def wrong_density(plan: Plan) -> Plan:
    return replace(plan, masks={"train": replace(plan.masks["train"], density=0.5)})


BREACHES = {
    "groups are laid end to end": shifted_groups,
    "rows are canonical and in range": lambda plan: with_space(
        plan, rows=Rows(lambda: ((0, 1, 0, 1), (0, 1, 1, 2)))
    ),
    "train and inference use one relation": other_rows_in_query,
    "every live group has a role": lambda plan: replace(plan, train=replace(plan.train, roles={})),
    "layers exist": lambda plan: with_space(plan, layers=9),
    "every answer has a reason": lambda plan: with_query(plan, because=""),
    "what is sought is generated": lambda plan: with_query(plan, sought=("joints.now",)),
    "what is dropped is dropped": lambda plan: with_query(
        plan, dropped=(Dropped("action.future", "deleted_exactly"),)
    ),
    "densities count pairs": wrong_density,
    "constant groups are live": lambda plan: with_query(
        plan,
        chain=tuple(replace(s, constant=(("all", "x"),)) for s in plan.queries["policy"].chain),
    ),
}


def test_a_legal_plan_passes(plan):
    assert verify(plan) is None
    assert dropped(plan.queries["policy"]) == {"camera.future": "output_ignored"}


@pytest.mark.parametrize("rule", BREACHES)
def test_every_rule_can_fail(plan, rule):
    with pytest.raises(IllegalPlan, match=rule):
        verify(BREACHES[rule](plan))


def test_the_same_plan_loads_all_weights(plan):
    found = compare(plan, plan)
    assert not found.differences and not found.missing
    assert set(found.loadable) == set(plan.parameters.by_owner)


def test_another_mask_changes_queries_but_no_weights(plan):
    rows = """
      attend {
        task, camera.now, joints sees task, camera.now, joints
        camera.future sees task, camera.now, joints, camera.future
        action sees task, camera.now, joints, action
      }
    """
    found = compare(plan, plan_of(ONE_TRUNK, rows, FLOWS, POLICY))
    assert {(entry.kind, entry.name) for entry in found.differences} == {
        ("edge", "camera.future -> all"), ("mask", "train"), ("mask", "policy"),
        ("query", "policy"),
    }  # fmt: skip
    assert not found.missing
    text = comparison_text(found)
    assert "answers\n  ~ policy\n      - action.future |" in text
    assert "weights that load: codec.words" in text


def test_weights_of_another_size_start_anew(plan):
    wider = ONE_TRUNK.replace("layers 2", "layers 3")
    found = compare(plan, plan_of(wider, FLOWS, POLICY))
    assert found.missing == ("trunk.all",)
    assert "weights that start anew: trunk.all" in comparison_text(found)
