"""What a query keeps, drops, generates first, and how exact its answer is."""

from fractions import Fraction

import pytest

from tests.front.plan.specs import (
    ONE_TRUNK,
    POLICY,
    SEEN,
    TWO_TRUNKS,
    compiled,
    dropped,
    errors_of,
    plan_of,
)

BOTH_SEE_ALL = f"""
  attend {{
    {SEEN} sees {SEEN}
    camera.future, action sees {SEEN}, camera.future, action
  }}
"""
ONE_WAY = f"""
  attend {{
    {SEEN} sees {SEEN}
    camera.future sees {SEEN}, camera.future, action
    action sees {SEEN}, action
  }}
"""
FLOWS = "generate foresight: camera.future by flow\n generate act: action by flow"
INVERSE = "query inverse: action | camera, joints, task"


def test_an_unseen_future_is_deleted_exactly():
    plan = plan_of(ONE_TRUNK, ONE_WAY, FLOWS, POLICY)
    query = plan.queries["policy"]
    assert query.answerable == "exact"
    assert dropped(query) == {"camera.future": "deleted_exactly"}
    assert query.because == "camera.future is deleted: no kept token sees it"
    assert query.live == ("task", "camera.now", "joints.now", "action.future")
    (step,) = query.chain
    (space,) = step.evaluation.spaces
    assert space.ranges == ((0, 18, 0, 18), (18, 22, 0, 22))
    assert plan.masks["policy"].tokens == 22


def test_what_does_not_change_from_step_to_step_is_constant():
    (step,) = plan_of(ONE_TRUNK, ONE_WAY, FLOWS, POLICY).queries["policy"].chain
    assert step.constant == tuple(("all", name) for name in ("task", "camera.now", "joints.now"))
    told_all = ONE_TRUNK.replace("heads 2x16", "heads 2x16; told all")
    (step,) = plan_of(told_all, ONE_WAY, FLOWS, POLICY).queries["policy"].chain
    assert step.constant == ()


@pytest.mark.parametrize(
    "losses, answer",
    [
        (FLOWS, "exact"),
        ("generate all_of_it: camera.future, action by flow { times shared }", "approximate"),
    ],
)
def test_what_is_deleted_counts_as_noise_where_all_are_told_of_it(losses, answer):
    told_all = ONE_TRUNK.replace("heads 2x16", "heads 2x16; told all")
    query = plan_of(told_all, ONE_WAY, losses, POLICY).queries["policy"]
    assert query.answerable == answer
    assert dropped(query) == {"camera.future": "deleted_exactly"}


def test_a_seen_future_is_generated_beside_and_ignored():
    query = plan_of(ONE_TRUNK, BOTH_SEE_ALL, FLOWS, POLICY).queries["policy"]
    assert query.answerable == "exact"
    assert dropped(query) == {"camera.future": "output_ignored"}
    assert "action.future sees camera.future (m.wm:21)" in query.because
    (step,) = query.chain
    assert step.segments == ("action.future",) and step.joint == ("camera.future",)
    assert step.evaluation.roles["all", "camera.future"] == "noisy"


@pytest.mark.parametrize(
    "law, answer", [("uniform", "exact"), ("uniform(0, 0.9)", "approximate"), ("fixed(1)", "exact")]
)
def test_pinning_is_exact_where_training_reaches_pure_noise(law, answer):
    losses = (
        f"generate foresight: camera.future by flow {{ time {law} }}\n generate act: action by flow"
    )
    pinned = POLICY + " { pinned camera.future }"
    query = plan_of(ONE_TRUNK, BOTH_SEE_ALL, losses, pinned).queries["policy"]
    assert query.answerable == answer
    assert dropped(query) == {"camera.future": "pinned_at_noise"}
    assert query.chain[0].evaluation.roles["all", "camera.future"] == "pinned"


@pytest.mark.parametrize(
    "losses, answer",
    [
        (FLOWS, "exact"),
        ("generate all_of_it: camera.future, action by flow { times shared }", "approximate"),
        ("generate all_of_it: camera.future, action by flow", "exact"),
        (FLOWS.replace("flow", "flow { time uniform(0.2, 1) }", 1), "approximate"),
    ],
)
def test_a_clean_future_is_exact_where_its_time_is_its_own_and_reaches_zero(losses, answer):
    query = plan_of(ONE_TRUNK, BOTH_SEE_ALL, losses, INVERSE).queries["inverse"]
    assert query.answerable == answer
    assert query.chain[0].evaluation.roles["all", "camera.future"] == "clean"
    assert query.because.startswith("training never shows camera.future as clean") == (
        answer == "approximate"
    )


def test_a_given_future_that_nobody_reads_has_no_answer():
    _, diagnostics = compiled(ONE_TRUNK, ONE_WAY, FLOWS, INVERSE)
    (error,) = diagnostics
    assert error.code == "WM603"
    assert "action.future does not see camera.future in all (m.wm:22)" in error.message
    assert [label.span.line for label in error.labels] == [27, 22]
    assert error.help == "write `action.future sees ..., camera.future` there"


def test_an_observation_that_is_seen_must_be_given():
    _, diagnostics = compiled(ONE_TRUNK, ONE_WAY, FLOWS, "query blind: action | task, joints")
    (error,) = diagnostics
    assert error.code == "WM603"
    assert "camera.now reaches action.future in all (m.wm:22) but is not given" in error.message


def test_placeholders_carry_nothing():
    trunk = ONE_TRUNK.replace("dit", "vit")
    losses = FLOWS.replace("flow", "regression")
    plan = plan_of(trunk, losses, POLICY)
    assert dropped(plan.queries["policy"]) == {"camera.future": "head_skipped"}
    assert plan.queries["policy"].answerable == "exact"
    assert plan.queries["policy"].chain[0].steps == 1
    ((code, message),) = errors_of(trunk, losses, INVERSE)
    assert code == "WM603" and "as learned placeholders (m.wm:18)" in message


INVERSE_TRUNK = """
  trunk inverse: vit {
    layers 2; width 32; heads 2x16
    tokens words(task), eyes(camera.now), eyes(camera.future), joints, action
  }
"""
HANDED = "generate foresight: camera.future by flow\n generate act: action by regression"


def test_what_is_handed_over_is_generated_first():
    plan = plan_of(TWO_TRUNKS, INVERSE_TRUNK, "hand plan: camera.future -> inverse", HANDED, POLICY)
    query = plan.queries["policy"]
    assert [step.segments for step in query.chain] == [("camera.future",), ("action.future",)]
    assert dropped(query) == {"camera.future": "not_optional"}
    assert query.answerable == "exact"
    first, second = query.chain
    assert [space.name for space in first.evaluation.spaces] == ["seer"]
    assert [space.name for space in second.evaluation.spaces] == ["inverse"]
    assert second.evaluation.roles["inverse", "camera.future"] == "handed"
    assert query.steps == {"camera": 10, "action": 1}


@pytest.mark.parametrize("training, answer", [("truth", "exact"), ("prediction", "approximate")])
def test_the_truth_is_new_to_a_trunk_that_has_read_predictions(training, answer):
    hand = f"hand plan: camera.future -> inverse {{ training {training} }}"
    query = plan_of(TWO_TRUNKS, INVERSE_TRUNK, hand, HANDED, INVERSE).queries["inverse"]
    assert query.answerable == answer
    assert [step.segments for step in query.chain] == [("action.future",)]


DOER = "trunk doer: dit { layers 2; width 16; heads 2x16; tokens joints, action }"


def tapped(tap: str, query: str = POLICY):
    return plan_of(TWO_TRUNKS, DOER, f"cross read: {tap} -> doer", FLOWS, query)


def test_blocks_above_the_last_tap_are_skipped():
    plan = tapped("tap(seer, layer 1)", f"{POLICY}\n{INVERSE}")
    depths = [
        {space.name: space.layers for space in query.chain[0].evaluation.spaces}
        for query in plan.queries.values()
    ]
    assert depths == [{"seer": 3, "doer": 2}, {"seer": 1, "doer": 2}]
    assert dropped(plan.queries["policy"]) == {"camera.future": "output_ignored"}
    assert dropped(plan.queries["inverse"]) == {"seer layers 1..2": "head_skipped"}


def test_a_tap_at_pure_noise_needs_no_future():
    plan = tapped("tap(seer, layer 1, at 1)")
    (step,) = plan.queries["policy"].chain
    assert dropped(plan.queries["policy"])["camera.future"] == "pinned_at_noise"
    assert plan.queries["policy"].answerable == "exact"
    assert [(space.name, space.time) for space in step.evaluation.spaces] == [
        ("seer", Fraction(1)), ("doer", None),
    ]  # fmt: skip
    assert [(space.name, space.time) for space in plan.train.spaces] == [
        ("seer", None), ("seer", Fraction(1)), ("doer", None),
    ]  # fmt: skip


def test_a_tap_at_half_noise_needs_half_a_future():
    query = tapped("tap(seer, layer 1, at 0.5)").queries["policy"]
    assert [(step.segments, step.until) for step in query.chain] == [
        (("camera.future",), Fraction(1, 2)), (("action.future",), 0),
    ]  # fmt: skip


STEPS = "query both: action, camera.future | camera.now, joints, task { steps camera 4, action 8 }"


def test_streams_denoised_together_may_take_steps_of_their_own():
    (step,) = plan_of(ONE_TRUNK, BOTH_SEE_ALL, FLOWS, STEPS).queries["both"].chain
    assert (step.steps, step.walk("camera.future").steps) == (8, 4)
    after = STEPS.replace("action, camera.future |", "camera.future then action |")
    query = plan_of(ONE_TRUNK, BOTH_SEE_ALL, FLOWS, after).queries["both"]
    assert [(step.segments, step.steps) for step in query.chain] == [
        (("camera.future",), 4), (("action.future",), 8),
    ]  # fmt: skip
    assert query.steps == {"camera": 4, "action": 8}


def test_what_is_generated_beside_takes_steps_of_its_own():
    policy = POLICY + " { steps camera 2, action 8 }"
    query = plan_of(ONE_TRUNK, BOTH_SEE_ALL, FLOWS, policy).queries["policy"]
    assert query.chain[0].joint == ("camera.future",)
    assert query.steps == {"action": 8, "camera": 2}


def test_rounds_of_segments_together_are_equally_many():
    parts = """
      stream grip: action[1] at 20 Hz { future 4 steps }
      codec bins: bins { bins 16 }
      trunk all: vit {
        layers 2; width 32; heads 2x16
        tokens words(task), eyes(camera.now), joints, patches(camera.future),
          bins(action), bins(grip)
      }
      generate foresight: camera.future by regression
      generate act: action by masked
      generate close: grip by masked
      query both: action, grip | camera.now, joints, task { steps grip 4, action 8 }
    """
    codes = dict(errors_of(parts))
    assert "different numbers of steps" in codes["WM603"]


def test_steps_of_their_own_need_times_of_their_own():
    tied = "generate all_of_it: camera.future, action by flow { times shared }"
    query = plan_of(ONE_TRUNK, BOTH_SEE_ALL, tied, STEPS).queries["both"]
    assert query.answerable == "approximate"
    assert query.because == (
        "training never shows camera.future and action.future at different noise levels"
    )


def test_a_stream_stops_short_of_data():
    stop = STEPS.replace("steps camera 4, action 8", "terminal camera 0.3")
    query = plan_of(ONE_TRUNK, BOTH_SEE_ALL, FLOWS, stop).queries["both"]
    (step,) = query.chain
    assert query.answerable == "exact"
    assert (step.left, step.walk("camera.future").stop) == ({"camera.future"}, Fraction(3, 10))
    in_turn = stop.replace("action, camera.future |", "camera.future then action |")
    ((code, message),) = errors_of(ONE_TRUNK, BOTH_SEE_ALL, FLOWS, in_turn)
    assert code == "WM603" and "camera.future stops short of data" in message


def test_a_tap_says_where_a_stream_stops():
    stop = POLICY + " { terminal camera 0.3 }"
    ((code, message),) = errors_of(
        TWO_TRUNKS, DOER, "cross read: tap(seer, layer 1, at 0.5) -> doer", FLOWS, stop
    )
    assert code == "WM603" and "is read at noise level 0.5" in message


def test_autoregressive_values_come_before_what_reads_them():
    trunk = """
      codec bins: bins { bins 16 }
      trunk all: decoder {
        layers 2; width 32; heads 2x16
        tokens words(task), eyes(camera.now), joints, bins(action), patches(camera.future)
      }
    """
    losses = "generate act: action by autoregressive\n generate next: camera.future by regression"
    query = "query imagine: camera.future | camera.now, joints, task"
    plan = plan_of(trunk, losses, POLICY, query)
    assert [step.segments for step in plan.queries["imagine"].chain] == [
        ("action.future",), ("camera.future",),
    ]  # fmt: skip
    assert plan.queries["policy"].chain[0].steps == 16
    assert plan.factorisation == "p(a|o,l) p(o'|o,a,l)"


def test_work_counts_kept_tokens_only():
    plan = plan_of(ONE_TRUNK, ONE_WAY, FLOWS, POLICY + " { steps 5 }", "query both: camera.future, "
                   "action | camera.now, joints, task { steps 5 }")  # fmt: skip
    policy, both = plan.queries["policy"], plan.queries["both"]
    assert policy.flops < both.flops
    assert policy.kv_bytes == 22 * 2 * 32 * 2 * 4
    assert both.tokens == 30 and policy.tokens == 22
