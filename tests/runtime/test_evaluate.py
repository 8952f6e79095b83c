"""`wmdsl eval` of runs in a toy environment: what it asks, tells and refuses."""

import dataclasses
import json

import numpy as np
import pytest

import wmdsl
from tests.runtime.conftest import ROWS_HZ, SETTINGS
from tests.runtime.test_session import SPEC as MEMORY
from wmdsl.data import keys
from wmdsl.environments import registry
from wmdsl.environments.base import Environment, EnvironmentSpec
from wmdsl.runtime import errors
from wmdsl.runtime.evaluate import evaluate_run
from wmdsl.runtime.session import SessionSettings
from wmdsl.tools import cli

PLANE = EnvironmentSpec(
    "toy/plane", ROWS_HZ, ("top",), ("x", "y", "z"), ("dx", "dy"), (-1.0,) * 2, (1.0,) * 2, 16, "go"
)


class Plane(Environment):
    """A point that moves as it is told; nobody ever succeeds."""

    spec = PLANE

    def reset(self, seed):
        self.place, self.steps = np.zeros(3, np.float32), 0
        return self.observe()

    def step(self, action):
        assert np.abs(action).max() <= 1
        self.place[:2] += action
        self.steps += 1
        return self.observe(), False, self.steps == self.spec.max_steps

    def observe(self):
        return {keys.STATE: self.place.copy(), keys.TASK: self.spec.instruction}

    def render(self, camera, size):
        return np.full((size, size, 3), self.steps, np.uint8)

    expert_action = save_state = restore_state = close = None


Plane.__abstractmethods__ = frozenset()


@pytest.fixture(autouse=True)
def plane(monkeypatch):
    monkeypatch.setattr(registry, "spec", lambda name: PLANE)
    monkeypatch.setattr(registry, "make", lambda name, supersample: Plane())


@pytest.fixture(scope="module")
def remembering(dataset, tmp_path_factory):
    from wmdsl.runtime.train import train

    out = tmp_path_factory.mktemp("runs") / "memory"
    settings = dataclasses.replace(SETTINGS, steps=2)
    return train(wmdsl.compile(MEMORY), dataset, out, settings, progress=False)


def test_a_run_that_looks_back_is_evaluated(remembering):
    """Its actions at 20 Hz are held for two steps each; frames and states between are shown."""
    report = evaluate_run(remembering, ["toy/plane"], 2, videos=0, workers=0, progress=False)
    assert report == json.loads((remembering / "eval.json").read_text())
    assert (report["execute"], report["ensemble"], report["prefetch"]) == (4, None, False)
    assert report["tasks"][0]["succeeded"] == [False, False]
    assert report["policy_batch"] == 2


def test_the_options_of_the_command_line(remembering, capsys):
    line = "--env toy/plane --episodes 1 --videos 0 --workers 0 --execute 1"
    line += " --ensemble 0.5 --prefetch"
    assert cli.main(["eval", str(remembering), *line.split()]) == 0
    report = json.loads((remembering / "eval.json").read_text())
    assert (report["execute"], report["ensemble"], report["prefetch"]) == (2, 0.5, True)
    assert "0/1" in capsys.readouterr().out


def test_environments_that_are_controlled_otherwise(remembering, monkeypatch):
    slow = dataclasses.replace(PLANE, name="toy/slow", control_hz=ROWS_HZ // 2)
    monkeypatch.setattr(registry, "spec", lambda name: slow if name == "toy/slow" else PLANE)
    with pytest.raises(errors.RunError, match="controlled otherwise than toy/plane"):
        evaluate_run(remembering, ["toy/plane", "toy/slow"], 1, progress=False)


def test_what_no_data_set_recorded_is_written_down(remembering):
    assert json.loads((remembering / "train.json").read_text())["unrecorded"] == []


def test_a_rate_that_does_not_fit_is_refused(remembering, monkeypatch):
    odd = dataclasses.replace(PLANE, control_hz=50)
    monkeypatch.setattr(registry, "spec", lambda name: odd)
    with pytest.raises(errors.RunError, match="WM877.*2.5 control steps"):
        evaluate_run(remembering, ["toy/plane"], 1, session=SessionSettings(), progress=False)
