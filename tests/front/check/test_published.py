"""The hard systems in the language have the parameter counts that were published or derived."""

import pytest

from tests.front.check.spec import example
from wmdsl.diagnostics import Diagnostics
from wmdsl.plan import build_plan

# Transformer blocks with their cross-attention; tolerances are those of the counts' sources.
COUNTS = [
    ("fast_wam", ("trunk.video_dit", "trunk.action_dit", "cross.read"), 6.02e9, 0.05),
    ("lingbot_va", ("trunk.dit", "cross.read"), 5.0e9, 0.05),
    ("cosmos_policy", ("trunk.dit", "cross.read"), 2.0e9, 0.10),
    ("worldvla", ("trunk.lm", "head.act", "head.next"), 7.0e9, 0.10),
]


@pytest.mark.parametrize(("name", "owners", "count", "tolerance"), COUNTS)
def test_parameters(name, owners, count, tolerance):
    plan = build_plan(example(f"atlas/{name}.wm"), Diagnostics())
    found = sum(plan.parameters.by_owner[owner] for owner in owners)
    assert found == pytest.approx(count, rel=tolerance)


def test_the_variants_of_fast_wam_differ_by_their_masks_alone():
    base, joint = (example(f"atlas/{name}.wm") for name in ("fast_wam", "fast_wam_joint"))
    assert base.trunks == joint.trunks and base.streams == joint.streams
    assert base.attends != joint.attends


def test_layouts_show_what_the_queries_of_cosmos_policy_ask():
    plan = build_plan(example("atlas/cosmos_policy.wm"), Diagnostics())
    assert {name: query.answerable for name, query in plan.queries.items()} == {
        "policy": "exact", "world": "exact", "worth": "exact",
    }  # fmt: skip
    assert plan.canonical_queries["inverse_dynamics"].answerable == "approximate"
