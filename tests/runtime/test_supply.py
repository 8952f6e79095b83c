"""What data cannot teach is an error or a warning, and a layout learns from its own sources."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import wmdsl
from tests.runtime.conftest import SETTINGS, SPEC, write_dataset
from wmdsl.data import keys
from wmdsl.runtime import errors
from wmdsl.runtime.feed import Feed
from wmdsl.runtime.run import RunDirectory
from wmdsl.runtime.stages import phases
from wmdsl.runtime.train import train

STAGED = Path(__file__).with_name("staged.wm")
LAYOUTS = """
edition 2026

model laid_out {
  stream top: video[3, 16, 24] at 10 Hz {
    now 1 frame; future 1 frame; key "observation.images.top"
  }
  stream state: proprio[3] at 40 Hz { now 1 step; key "observation.state" }
  stream blank: image[3, 16, 24]
  stream side: video[3, 16, 24] at 10 Hz { future 1 frame }
  stream action: action[2] at 40 Hz { future 4 steps; key "action" }
  codec patches: patch { size 8x8 }
  trunk body: dit {
    layers 1; width 16; heads 2x8
    tokens patches(blank), patches(top), patches(side), state, action
  }
  layout act { predict action, side; data robot }
  layout world { predict top.future; data films, robot }
  generate foresight: top.future by flow
  generate act: action, side by flow
  query policy: action, side | blank, top.now, state { steps 2 }
}
"""


GAPS = [
    "no data set records blank: it is zero in every sample",
    "act learns nothing of side.future, which no data set of it records",
]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A data set without actions."""
    root = tmp_path_factory.mktemp("films") / "silent"
    return write_dataset(root, left_out=(keys.ACTION,))


def gaps(spec, data):
    module = wmdsl.compile(spec)
    return Feed(module, data, SETTINGS).gaps(phases(module.plan.model, SETTINGS))


def test_whole_data_leaves_no_gap(dataset):
    assert gaps(SPEC, {"": dataset}) == []


def test_a_term_that_nothing_teaches_ends_the_training(films, tmp_path):
    with pytest.raises(errors.RunError, match="cannot teach act") as caught:
        train(wmdsl.compile(SPEC), films, tmp_path / "r", SETTINGS, progress=False)
    assert caught.value.code == "WM883"
    assert not RunDirectory(tmp_path / "r").training.exists()


def test_each_stage_needs_data_of_its_own(dataset, films):
    assert gaps(STAGED, {"films": films, "robot": dataset}) == []
    with pytest.raises(errors.RunError, match="films, robot cannot teach act") as caught:
        gaps(STAGED, {"films": films, "robot": films})
    assert caught.value.where == "stage warm"


def test_numbers_without_statistics_are_refused(dataset):
    spec = SPEC.read_text().replace('key "observation.state"', 'key "observation.other"')
    with pytest.raises(errors.RunError, match="no data set records state") as caught:
        gaps(spec, {"": dataset})
    assert caught.value.code == "WM883" and "observation.other" in caught.value.where


def test_layouts_name_their_sources(dataset, films):
    with pytest.raises(errors.RunError, match="layout act reads the data source 'robot'"):
        gaps(LAYOUTS, {"films": films})
    with pytest.raises(errors.RunError, match="cannot teach act"):
        gaps(LAYOUTS, {"films": dataset, "robot": films})
    assert gaps(LAYOUTS, {"films": films, "robot": dataset}) == GAPS


def test_samples_are_numbered_for_layouts(dataset, films):
    module = wmdsl.compile(LAYOUTS)
    feed = Feed(module, {"films": films, "robot": dataset}, SETTINGS)
    (phase,) = phases(module.plan.model, SETTINGS)
    loader = feed.of(phase)
    numbers = [loader.next_batch(torch.Generator())["source"] for _ in range(20)]
    assert set(torch.cat(numbers).tolist()) == {0, 1}  # robot, films
    lone = Feed(module, {"": dataset}, SETTINGS).of(phase)
    assert "source" not in lone.next_batch(torch.Generator())


def test_gaps_are_said_and_kept_with_the_run(dataset, tmp_path, capsys):
    settings = dataclasses.replace(SETTINGS, steps=1)
    module = wmdsl.compile(LAYOUTS)
    out = train(module, {"": dataset}, tmp_path / "r", settings, progress=False)
    assert json.loads((out / "train.json").read_text())["gaps"] == GAPS
    assert f"warning[WM884]: {GAPS[0]}" in capsys.readouterr().err
