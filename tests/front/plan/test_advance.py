"""How a query is rolled out: which samples are known to the next chunk, and when it cannot be."""

from pathlib import Path

import pytest

import wmdsl
from wmdsl.plan.advance import NoRollOut, advance_of, controllable

PARADIGMS = Path(__file__).resolve().parents[3] / "examples" / "paradigms"
SPEC = """
edition 2026
model world {{
  stream top: video[3, 16, 16] at {rate} Hz {{ {window} }}
  stream side: video[3, 16, 16] at 20 Hz {{ now 1 frame }}
  stream state: proprio[3] at 80 Hz {{ now 1 step; future 1 step; offset 16 steps }}
  stream action: action[2] at 80 Hz {{ {action} }}
  codec eyes: conv {{ channels 8; strides 4 }}
  codec patches: patch {{ size 8x8 }}
  trunk body: vit {{
    layers 1; width 16; heads 2x8
    tokens patches(top), eyes(side), state, action
  }}
  generate foresight: top.future by regression
  generate feel: state.future by regression
  query ahead: top.future, state.future | {given}, side, state.now, action
}}
"""


def planned(rate=20, window="now 1 frame; future 4 frames", action="future 16 steps", given=None):
    given = given or ("top.past, top.now" if "past" in window else "top.now")
    text = SPEC.format(rate=rate, window=window, action=action, given=given)
    plan = wmdsl.plan(text)
    return advance_of(plan.model, controllable(plan, "ahead"))


def test_the_sample_at_the_end_of_the_chunk_is_seen_next():
    found = planned()
    assert (found.query, found.action, found.steps) == ("ahead", "action", 16)
    assert dict(found.places) == {"top": (4,), "state": (1,)}
    assert found.held == ("side",) and found.frames == "top"
    assert dict(found.arrives) == {"top": 3, "state": 0}


def test_a_history_moves_on_by_the_chunk():
    """Known at -2, -1, 0 and predicted at 1..6: four samples on these are 2, 3, 4."""
    found = planned(window="past 2 frames; now 1 frame; future 6 frames")
    assert found.places["top"] == (4, 5, 6) and found.arrives["top"] == 3


def test_a_history_longer_than_the_chunk_keeps_its_head():
    found = planned(window="past 5 frames; now 1 frame; future 4 frames")
    assert found.places["top"] == (4, 5, 6, 7, 8, 9)


def test_what_falls_between_the_predicted_samples_is_refused():
    with pytest.raises(NoRollOut, match="top must be known at 4, and it is predicted at 1, 2"):
        planned(window="now 1 frame; future 2 frames")


@pytest.mark.parametrize("past", [4, 20])
def test_past_actions_follow_those_given(past):
    """Known at -past..-1 and given at 0..15; after 16 steps the last `past` of them are past."""
    found = planned(action=f"past {past} steps; future 16 steps")
    assert found.places["action"] == tuple(range(16, 16 + past))
    assert found.predicted == ("top", "state") and found.held == ("side",)


@pytest.mark.parametrize("name", ["idm", "latent", "unified_vla", "no_world_model"])
def test_who_cannot_answer_is_refused_with_the_reason_of_the_plan(name):
    plan = wmdsl.plan(PARADIGMS / f"{name}.wm")
    question = controllable(plan)
    assert question.answerable == "no"
    with pytest.raises(NoRollOut) as caught:
        advance_of(plan.model, question)
    assert str(caught.value) == plan.canonical_queries["controllable_world_model"].because


def test_declared_queries_come_before_the_canonical_one():
    plan = wmdsl.plan(PARADIGMS / "mot.wm")
    assert controllable(plan) is plan.queries["controllable"]
    assert controllable(plan, "imagine") is plan.queries["imagine"]
