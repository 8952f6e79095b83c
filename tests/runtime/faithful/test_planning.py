"""Planners in closed loop on a world whose law is known."""

import json

import numpy as np
import pytest
import torch

import wmdsl
from tests.runtime.faithful.dot_world import STEP, DotWorld, located
from tests.runtime.faithful.test_suite import DOTS, PAST_DOTS, run_of
from wmdsl.runtime import errors, planning
from wmdsl.runtime.planning import PlanningSettings, plan_run

PLANNERS = """
  planner see: cem {
    query world; goal top.future; chunks 3; samples 8; rounds 1; elites 2; execute 4 steps
  }
  planner still: random { query world; goal top.future; chunks 3; samples 4; rounds 2 }
}
"""
SETTINGS = PlanningSettings(episodes=3, limit=220, settle=20)


class Walker(torch.nn.Linear):
    """A module, on a CPU as its weight is: its planner `see` walks to the dot of the goal picture,
    and `still` never does."""

    def __init__(self, plan):
        super().__init__(1, 1)
        self.plan, self.warm, self.shown = plan, [], []

    def search(self, name, batch, goal, generator, warm=None):
        self.warm.append(warm)
        self.shown.append(batch)
        apart = located(goal["top"][:, 0]) - located(batch["top"][:, -1])
        action = (apart / (12 * STEP)).clamp(-1, 1)[:, None].expand(-1, 12, -1)
        ramp = torch.linspace(1, 0.5, 12)[:, None]
        return {"action": ramp * action if name == "see" else torch.zeros_like(action)}


@pytest.fixture(scope="module")
def plan():
    return wmdsl.plan(DOTS.read_text().rstrip().removesuffix("}") + PLANNERS)


def planned(plan, folder, planners, monkeypatch):
    module = Walker(plan)
    monkeypatch.setattr(planning, "load_run", lambda path: module)
    monkeypatch.setattr(planning.registry, "make", lambda name, supersample: DotWorld())
    run_of(folder, plan)
    return module, plan_run(folder, planners, "dots/go", SETTINGS, progress=False)


def test_planners_act_in_the_same_episodes(plan, tmp_path, monkeypatch):
    _, report = planned(plan, tmp_path, ["see", "still"], monkeypatch)
    walked, stood = report["planners"]["see"], report["planners"]["still"]
    assert (walked["success"], stood["success"]) == (1, 0)
    assert walked["distance"][0] < 0.06 and stood["distance"][0] > 0.5
    assert walked["candidates"] == stood["candidates"] == 8
    assert stood["steps"] == [220] * 3 and max(walked["steps"]) < 220
    assert len(set(report["seeds"])) == 3
    assert json.loads((tmp_path / "planner.json").read_text()) == report


def test_a_plan_goes_on_where_the_last_one_ended(plan, tmp_path, monkeypatch):
    module, _ = planned(plan, tmp_path, ["see"], monkeypatch)
    first, second = module.warm[:2]
    assert first is None and second.shape == (3, 12, 2)
    ramp = second[:, :, 0] / second[:, :1, 0]
    whole = np.linspace(1, 0.5, 12)
    expected = np.append(whole[4:], [whole[-1]] * 4) / whole[4]
    assert torch.allclose(ramp, torch.from_numpy(expected).float().expand(3, -1), atol=1e-4)


def test_a_planner_is_shown_what_was_seen_and_done(tmp_path, monkeypatch):
    """Before the second search: the frames and states of the 4 steps done, and these actions."""
    text = PAST_DOTS.read_text().replace('"dots.wm"', f'"{DOTS}"').rstrip().removesuffix("}")
    module, _ = planned(wmdsl.plan(text + PLANNERS), tmp_path, ["see"], monkeypatch)
    first, second = module.shown[:2]
    assert not first["action"].any() and first["action"].shape == (3, 12, 2)
    assert torch.equal(first["state"], first["state"][:, -1:].expand(-1, 5, -1))
    assert not second["action"][:, :8].any() and second["action"][:, 8:].any()
    step = STEP * second["action"][:, 8:]
    moved = second["state"][:, 1:, :2] - second["state"][:, :-1, :2]
    torch.testing.assert_close(moved, step, atol=1e-6, rtol=1e-4)
    assert torch.equal(second["top"][:, 1], first["top"][:, 2])
    assert not torch.equal(second["top"][:, 2], second["top"][:, 1])


def test_a_planner_must_be_declared(plan, tmp_path, monkeypatch):
    with pytest.raises(errors.RunError, match="declares no such planner") as caught:
        planned(plan, tmp_path, ["dance"], monkeypatch)
    assert "see, still" in caught.value.help


def test_an_expert_that_never_arrives_is_told(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(DotWorld, "expert_action", lambda self: np.zeros(2, np.float32))
    with pytest.raises(errors.RunError, match="rarely reaches"):
        planned(plan, tmp_path, ["see"], monkeypatch)
