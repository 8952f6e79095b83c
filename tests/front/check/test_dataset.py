"""A spec against the metadata of a data set."""

from dataclasses import dataclass

import pytest

from wmdsl.check import check
from wmdsl.check.dataset import check_data
from wmdsl.diagnostics import Diagnostics
from wmdsl.resolve import resolve
from wmdsl.source import Source
from wmdsl.syntax import parse

SPEC = """edition 2026
model policy {
  stream camera: video[3, 64, 64] at 20 Hz { now 1 frame; key "observation.images.corner" }
  stream text: language[32] { key "task" }
  stream action: action[4] at 80 Hz { future 16 steps }
  codec eyes: conv
  codec words: bytes
  trunk doer: dit { layers 2; width 64; heads 2x32; tokens words(text), eyes(camera), action }
  generate act: action by flow
  query policy: action | camera, text
}
"""


@dataclass(frozen=True)
class Feature:
    shape: tuple[int, ...]
    rate_hz: float
    is_camera: bool = False

    @property
    def image_shape(self):
        return self.shape


@dataclass(frozen=True)
class DataSet:
    features: dict[str, Feature]
    fps: float = 80.0
    root: str = "data/demos"


CORNER = {"observation.images.corner": Feature((3, 480, 480), 20.0, is_camera=True)}
ACTION = {"action": Feature((4,), 80.0)}


def against(data: DataSet, text: str = SPEC):
    """(code, line, help) of what does not fit."""
    diagnostics = Diagnostics()
    spec = resolve(parse(Source("policy.wm", text), diagnostics), {}, diagnostics)
    check_data(check(spec, diagnostics), data, diagnostics)
    return [(entry.code, entry.primary.span.line, entry.help) for entry in diagnostics]


def test_a_fitting_data_set_is_silent():
    assert against(DataSet({**CORNER, **ACTION})) == []


def test_a_missing_camera_names_those_that_are_there():
    wrist = {"observation.images.wrist": Feature((3, 64, 64), 20.0, is_camera=True)}
    ((code, line, help_),) = against(DataSet({**wrist, **ACTION}))
    assert (code, line) == ("WM140", 3)
    assert '`key "observation.images.wrist"`' in help_


def test_a_missing_column_never_proposes_the_counters_of_the_rows():
    state = {"observation.state": Feature((4,), 80.0), "timestamp": Feature((1,), 80.0)}
    ((code, line, help_),) = against(DataSet({**CORNER, **state}))
    assert (code, line) == ("WM140", 5)
    assert "observation.state" in help_ and "timestamp" not in help_


def test_seven_against_four_action_dimensions():
    ((code, line, help_),) = against(DataSet({**CORNER, "action": Feature((7,), 80.0)}))
    assert (code, line, help_) == ("WM220", 5, "write `action[7]`, or name another key")


def test_frames_are_resized_but_their_channels_must_agree():
    depth = {"observation.images.corner": Feature((1, 480, 480), 20.0, is_camera=True)}
    assert [found[0] for found in against(DataSet({**depth, **ACTION}))] == ["WM220"]


def test_a_camera_is_no_column_of_numbers():
    column = {"observation.images.corner": Feature((3,), 80.0)}
    assert [found[0] for found in against(DataSet({**column, **ACTION}))] == ["WM220"]


def test_a_camera_recorded_more_slowly_than_the_spec_wants():
    slow = {"observation.images.corner": Feature((3, 64, 64), 10.0, is_camera=True)}
    ((code, line, help_),) = against(DataSet({**slow, **ACTION}))
    assert (code, line, help_) == ("WM320", 3, "write `at 10 Hz`")


@pytest.mark.parametrize(("fps", "near"), [(50.0, "25 Hz"), (30.0, "30 Hz")])
def test_rows_that_come_at_no_multiple_of_the_rate(fps, near):
    camera = {"observation.images.corner": Feature((3, 64, 64), fps, is_camera=True)}
    action = {"action": Feature((4,), fps)}
    found = against(DataSet({**camera, **action}, fps), SPEC.replace("80", "20"))
    assert [(code, line) for code, line, _ in found] == [("WM321", 3), ("WM321", 5)]
    assert near in found[0][2]
