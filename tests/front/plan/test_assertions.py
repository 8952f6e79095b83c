"""Assertions about information flow, and inputs that never arrive."""

import pytest

from tests.front.plan.specs import ONE_TRUNK, POLICY, SEEN, compiled, errors_of, plan_of

BASE = (
    ONE_TRUNK,
    f"""
  attend {{
    {SEEN} sees {SEEN}
    camera.future sees {SEEN}, camera.future, action
    action sees {SEEN}, action
  }}
  generate foresight: camera.future by flow
  generate act: action by flow
  {POLICY}
""",
)


@pytest.mark.parametrize(
    "promise",
    [
        "camera.future does not reach action",
        "action reaches camera.future",
        f"only {SEEN} reach action",
        "action sees camera.now",
        "action does not see camera.future",
        "task reaches camera.future",
    ],
)
def test_promises_that_hold(promise):
    assert plan_of(*BASE, f"assert {promise}").model.assertions


@pytest.mark.parametrize(
    "promise, message",
    [
        ("action does not reach camera.future", "action.future reaches camera.future"),
        ("camera.future reaches action", "camera.future does not reach action.future"),
        ("only task, camera reach action", "joints.now reaches action.future"),
        ("action sees camera.future", "action.future does not see camera.future"),
        ("camera.future does not see action", "camera.future sees action.future"),
    ],
)
def test_promises_that_break(promise, message):
    assert errors_of(*BASE, f"assert {promise}") == [("WM512", message)]


def test_a_broken_promise_shows_the_way():
    _, diagnostics = compiled(*BASE, "assert action does not reach camera.future")
    (error,) = diagnostics
    assert [(label.span.line, label.text) for label in error.labels][1:] == [
        (15, "linear(action.future) stands in all as linear(action.future) (m.wm:15)"),
        (21, "action.future is seen by camera.future in all (m.wm:21)"),
        (24, "camera.future predicts camera.future by flow (m.wm:24)"),
    ]


def test_a_promise_about_a_query():
    held = "assert camera.future does not reach action in policy"
    assert plan_of(*BASE, held).model.assertions[0].where == "policy"


def test_a_deployed_policy_reads_predictions():
    """What is handed over is no new source of information: it comes from what its maker reads."""
    parts = (
        "trunk seer: dit { layers 1; width 32; heads 2x16; tokens eyes(camera.now), "
        "patches(camera.future), words(task) }",
        "trunk doer: vit { layers 1; width 32; heads 2x16; tokens eyes(camera.future), joints, "
        "action }",
        "hand plan: camera.future -> doer",
        "generate foresight: camera.future by flow",
        "generate act: action by regression",
        "assert task reaches action",
    )
    assert plan_of(*parts).model.assertions


def test_one_block_carries_one_step():
    trunk = ONE_TRUNK.replace("layers 2", "layers 1")
    rows = """
      attend {
        task sees task
        joints sees joints, task
        camera.now sees camera.now, joints
        camera.future, action sees camera.now, camera.future, action
      }
    """
    rest = "generate foresight: camera.future by flow\n generate act: action by flow"
    codes = [code for code, _ in errors_of(trunk, rows, rest)]
    assert codes == ["WM511", "WM511"]
    assert [code for code, _ in errors_of(trunk.replace("layers 1", "layers 2"), rows, rest)] == [
        "WM511"
    ]
    assert plan_of(trunk.replace("layers 1", "layers 3"), rows, rest)
