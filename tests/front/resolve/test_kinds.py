"""An override that changes a declaration's kind leaves the old kind's attributes behind."""

from wmdsl import check

BASE = """
model base {
  stream state: proprio[2] at 10 Hz { now 1 step }
  stream action: action[2] at 10 Hz { future 2 steps }
  trunk body: dit { layers 1; width 16; heads 2x8; tokens state, action }
  generate act: action by flow { time beta(1.5, 1.0); shift 3; weight 0.5 }
}
model child extends base { override generate act: action by regression { distance l2 } }
"""


def test_attributes_of_the_old_kind_are_left_behind():
    assert not [found for found in check(BASE) if found.severity == "error"]


def test_attributes_of_the_form_stay():
    from wmdsl import plan

    assert plan(BASE).model.generates["act"].weight == 0.5
    assert plan(BASE).model.generates["act"].distance == "l2"


def test_an_attribute_that_the_override_itself_writes_is_still_checked():
    wrong = BASE.replace("{ distance l2 }", "{ shift 3 }")
    assert [found.code for found in check(wrong) if found.severity == "error"] == ["WM121"]
