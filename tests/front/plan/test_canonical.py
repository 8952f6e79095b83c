"""The four usual questions to every paradigm, as a table of answers; masks and costs of layouts."""

import re

import pytest

from tests.front.plan.specs import dropped, example
from tests.rules import ROOT
from wmdsl import driver

E, N = "exact", "no"
QUESTIONS = ("policy", "passive_world_model", "controllable_world_model", "inverse_dynamics")
ANSWERS = {
    "paradigms/idm.wm": (E, E, N, E),
    "paradigms/latent.wm": (E, E, N, N),
    "paradigms/mot.wm": (E, E, E, E),
    "paradigms/no_world_model.wm": (E, N, N, N),
    "paradigms/single_backbone.wm": (E, E, E, E),
    "paradigms/unified_vla.wm": (E, E, N, N),
    "hybrids/mot_fast.wm": (E, E, E, N),
    "atlas/fast_wam.wm": (E, E, N, N),
    "atlas/fast_wam_joint.wm": (E, E, N, E),
    "atlas/lingbot_va.wm": (E, E, N, E),
}
REASONS = {
    ("paradigms/idm.wm", "controllable_world_model"): "action.future stands in inverse as learned "
    "placeholders (idm.wm:{}), so that nothing reads its value",
    ("paradigms/latent.wm", "inverse_dynamics"): "corner.future has no tokens that reach "
    "action.future: policy does not hold any (latent.wm:{})",
    ("paradigms/no_world_model.wm", "inverse_dynamics"): "nothing visual is predicted",
    ("hybrids/mot_fast.wm", "inverse_dynamics"): "action.future does not see corner.future in "
    "experts (mot_fast.wm:{})",
    ("atlas/fast_wam.wm", "inverse_dynamics"): "action.future does not see camera.future in "
    "experts (fast_wam.wm:{})",
    ("atlas/fast_wam.wm", "policy"): "camera.future is deleted: no kept token sees it",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", ANSWERS)
def test_answers(path):
    queries = example(path).canonical_queries
    assert tuple(queries) == QUESTIONS
    assert tuple(query.answerable for query in queries.values()) == ANSWERS[path]
    assert all(query.blamed for query in queries.values() if query.answerable == "no")


@pytest.mark.parametrize("path, question", REASONS)
def test_reasons_name_the_line(path, question):
    query = example(path).canonical_queries[question]
    line = query.blamed.line if query.blamed else ""
    assert query.because == REASONS[path, question].format(line)


def test_fast_wam_never_runs_its_video():
    """The example that the page of the language answers unasked."""
    plan = example("atlas/fast_wam.wm")
    policy = plan.queries["policy"]
    assert dropped(policy)["camera.future"] == "deleted_exactly"
    (step,) = policy.chain
    assert ("video_dit", "camera.now") in step.constant
    joint = example("atlas/fast_wam_joint.wm").canonical_queries["policy"]
    assert dropped(joint)["camera.future"] == "output_ignored"
    assert "action.future sees camera.future" in joint.because


@pytest.mark.parametrize(
    "path, name, tokens, density, ranges, runtime",
    [
        ("atlas/fast_wam.wm", "train", 326, 0.672, 2, ()),
        ("atlas/fast_wam_joint.wm", "train", 326, 0.731, 1, ()),
        ("atlas/fast_wam_idm.wm", "twice", 620, 0.377, 1, ()),
        ("atlas/lingbot_va.wm", "packed", 4352, 0.275, 3, ("chunk", "window")),
    ],
)
def test_published_masks(path, name, tokens, density, ranges, runtime):
    mask = example(path).masks[name]
    assert (mask.tokens, mask.max_ranges_per_row, mask.runtime) == (tokens, ranges, runtime)
    assert round(mask.density, 3) == density


def test_training_costs_what_every_layout_does():
    """Both layouts run on every sample, and one of them holds less of the tokens."""
    text = (ROOT / "tests/cpu/emit/specs/arranged.wm").read_text()
    layouts = re.findall(r"^  layout .*\n", text, re.MULTILINE)
    assert len(layouts) == 2
    alone = [driver.front(text.replace(layout, "")).train_flops for layout in layouts]
    assert driver.front(text).train_flops == sum(alone)
    everything = driver.front("".join(re.split(r"^  layout .*\n", text, flags=re.M))).train_flops
    assert all(cost < everything for cost in alone)
