"""The public functions keep their names beside the stage folders that bear them too."""

import importlib

import pytest

import wmdsl
from wmdsl.driver import SpecError

SPEC = """
model small {
  stream state: proprio[2] at 10 Hz { now 1 step }
  stream action: action[2] at 10 Hz { future 2 steps }
  trunk body: dit { layers 1; width 16; heads 2x8; tokens state, action }
  generate act: action by flow
  query policy: action | state
}
"""


@pytest.mark.parametrize("stage", ["check", "plan", "emit"])
def test_importing_a_stage_leaves_the_function(stage):
    importlib.import_module(f"wmdsl.{stage}")
    assert callable(getattr(wmdsl, stage))


def test_parse_check_plan():
    assert wmdsl.parse(SPEC).models[0].name.text == "small"
    assert wmdsl.check(SPEC) == []
    assert wmdsl.plan(SPEC).model.trunks["body"].width == 16


def test_a_spec_with_errors_raises_all_of_them_at_once():
    wrong = SPEC.replace("width 16", "width -1").replace("at 10 Hz { now", "at 10 s { now")
    codes = [found.code for found in wmdsl.check(wrong)]
    assert len(codes) >= 2
    with pytest.raises(SpecError) as caught:
        wmdsl.plan(wrong)
    assert [found.code for found in caught.value.diagnostics] == codes


def test_a_path_and_its_text_mean_the_same(tmp_path):
    path = tmp_path / "small.wm"
    path.write_text(SPEC)
    assert wmdsl.plan(path).model.sha256 == wmdsl.plan(SPEC).model.sha256
