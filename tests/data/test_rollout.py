"""Closed-loop evaluation: what is asked, what is counted, what it does not depend on."""

import json
from pathlib import Path

import numpy as np
import pytest

from wmdsl.data import keys
from wmdsl.data.errors import DataError
from wmdsl.data.video import video_rate
from wmdsl.environments import base, make, rollout, stepping
from wmdsl.environments.base import Environment, EnvironmentSpec
from wmdsl.environments.intervals import wilson_interval
from wmdsl.environments.rollout import evaluate
from wmdsl.environments.seeds import Purpose, episode_seed

DRAWER = "metaworld/drawer-open-v3"
CAMERAS = (keys.image_key("corner"), keys.image_key("wrist"))


class Recorder:
    """A policy that keeps what it is shown and pushes one way."""

    def __init__(self, cameras=(), execute=4, action=(0.0, 0.0, 0.0, 0.0)):
        self.cameras, self.execute, self.between = cameras, execute, {}
        self.action = np.array(action, np.float32)
        self.seen = []

    def reset(self, count):
        self.count = count

    def act(self, observations):
        self.seen.append([dict(observation) for observation in observations])
        return np.tile(self.action, (len(observations), self.execute + 2, 1))


class Line(Environment):
    """A point on a line that must reach 1; its seed is where it starts (in hundredths)."""

    spec = EnvironmentSpec(
        "toy/line", 10, ("eye",), ("x",), ("dx",), (-1.0,), (1.0,), 20, "go to one"
    )
    made = 0

    def __init__(self):
        type(self).made += 1

    def reset(self, seed):
        self.x, self.steps = (seed % 100) / 100, 0
        return self.observe()

    def step(self, action):
        self.x += float(action[0])
        self.steps += 1
        return self.observe(), self.x >= 1, self.steps == self.spec.max_steps

    def observe(self):
        return {keys.STATE: np.array([self.x], np.float32), keys.TASK: self.spec.instruction}

    def render(self, camera, size):
        return np.full((size, size, 3), min(255, int(self.x * 100)), np.uint8)

    expert_action = save_state = restore_state = close = None


Line.__abstractmethods__ = frozenset()


@pytest.fixture
def line(monkeypatch):
    """Make `toy/line` the only environment there is."""
    monkeypatch.setattr(rollout.registry, "spec", lambda name: Line.spec)
    monkeypatch.setattr(stepping.registry, "make", lambda name, supersample: Line())
    Line.made = 0
    return "toy/line"


def test_success_is_counted_at_any_step(line):
    policy = Recorder(execute=4, action=[0.1])
    result = evaluate(policy, line, 30, workers=0, slots=4, progress=False).tasks[0]
    starts = [(episode_seed(Purpose.EVALUATION, 0, n) % 100) / 100 for n in range(30)]
    for outcome, start in zip(result.outcomes, starts, strict=True):
        needed = max(1, int(np.ceil((1 - start) / 0.1 - 1e-6)))
        assert outcome.success
        assert abs(outcome.steps - needed) <= 1
    assert result.to_json()["success"] == 1


def test_failures_end_at_the_last_step(line):
    found = evaluate(Recorder(action=[0.0]), line, 5, workers=0, progress=False).tasks[0]
    assert [outcome.steps for outcome in found.outcomes] == [20] * 5
    assert found.to_json()["mean_steps"] is None
    assert found.to_json()["success"] == 0


def test_slots_are_refilled_and_environments_used_again(line):
    policy = Recorder(action=[0.1])
    evaluate(policy, line, 12, workers=0, slots=3, progress=False)
    assert policy.count == 3
    assert max(len(observations) for observations in policy.seen) == 3
    assert Line.made == 3
    begun = [o["slot"] for observations in policy.seen for o in observations if o["step"] == 0]
    assert len(begun) == 12
    assert set(begun) == {0, 1, 2}


def test_only_what_is_asked_for_is_rendered(line, monkeypatch):
    blind = Recorder(action=[0.1])
    monkeypatch.setattr(Line, "render", None)
    evaluate(blind, line, 2, workers=0, progress=False)
    assert set(blind.seen[0][0]) == {keys.STATE, keys.TASK, "slot", "step", "between"}


def test_a_policy_is_shown_the_steps_between_that_it_wants(line):
    """Step 3 of each chunk of four with its image, step 1 without; nothing at the start."""
    policy = Recorder(cameras=(keys.image_key("eye"),), execute=4, action=[0.02])
    policy.between = {1: (keys.STATE,), 3: (keys.STATE, keys.image_key("eye"))}
    evaluate(policy, line, 1, workers=0, progress=False)
    first, second = (observations[0] for observations in policy.seen[:2])
    assert first["between"] == {} and first["step"] == 0
    assert list(second["between"]) == [1, 3]
    for number, seen in second["between"].items():
        assert seen[keys.STATE] == pytest.approx(first[keys.STATE] + 0.02 * number)
    assert keys.image_key("eye") not in second["between"][1]
    shown = second["between"][3]
    assert int(shown[keys.image_key("eye")][0, 0, 0]) == pytest.approx(
        100 * shown[keys.STATE][0], abs=1
    )


def test_another_instruction_is_given(line):
    policy = Recorder(action=[0.1])
    found = evaluate(policy, line, 2, workers=0, instructions={line: "go to zero"}, progress=False)
    assert {o[keys.TASK] for seen in policy.seen for o in seen} == {"go to zero"}
    assert found.tasks[0].instruction == "go to zero"


def test_some_episodes_are_filmed(line, tmp_path):
    found = evaluate(
        Recorder(action=[0.1]), line, 3, workers=0, videos=2, video_folder=tmp_path, progress=False
    )
    assert [Path(video).name for video in found.videos] == ["toy_line-00.mp4", "toy_line-01.mp4"]
    assert all(video_rate(Path(video)) == Line.spec.control_hz for video in found.videos)


def test_results_are_ready_for_json(line):
    found = evaluate(Recorder(action=[0.1]), line, 4, workers=0, progress=False).to_json()
    assert json.loads(json.dumps(found)) == found
    (task,) = found["tasks"]
    assert (task["task"], task["episodes"], task["successes"]) == ("toy/line", 4, 4)
    assert task["seeds"] == [episode_seed(Purpose.EVALUATION, 0, n) for n in range(4)]
    assert task["interval"] == list(wilson_interval(4, 4))


def test_actions_of_a_wrong_shape_are_refused(line):
    policy = Recorder()
    policy.act = lambda observations: np.zeros((len(observations), 1))
    with pytest.raises(ValueError, match="shape"):
        evaluate(policy, line, 1, workers=0, progress=False)


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(50, 50, 0.929, 1.0), (0, 50, 0.0, 0.071), (46, 50, 0.812, 0.968), (5, 10, 0.237, 0.763)],
)
def test_wilson_intervals(successes, episodes, low, high):
    found = wilson_interval(successes, episodes)
    assert np.allclose(found, (low, high), atol=5e-4)


class Expert(Recorder):
    """Repeats what the expert did from the same seeds, known by slot."""

    def __init__(self, paths, **settings):
        super().__init__(CAMERAS, **settings)
        self.paths = paths

    def act(self, observations):
        super().act(observations)
        chunks = [self.paths[o["slot"]][o["step"] :][: self.execute] for o in observations]
        pad = [np.zeros((self.execute - len(chunk), 4), np.float32) for chunk in chunks]
        return np.stack([np.concatenate(pair) for pair in zip(chunks, pad, strict=True)])


@pytest.fixture(scope="module")
def expert_paths():
    """The expert's actions in the first two evaluation episodes."""
    environment = make(DRAWER)
    paths = []
    for number in range(2):
        environment.reset(episode_seed(Purpose.EVALUATION, 0, number))
        path, success = [], False
        while not success:
            path.append(environment.expert_action())
            _, success, _ = environment.step(path[-1])
        paths.append(np.stack(path))
    return paths


def test_the_expert_succeeds_here_and_in_workers_alike(expert_paths):
    def run(workers):
        policy = Expert(expert_paths, execute=40)
        found = evaluate(policy, DRAWER, 2, size=32, workers=workers, slots=2, progress=False)
        return policy.seen, found.tasks

    (here, first), (there, second) = run(0), run(2)
    assert first == second
    assert [outcome.steps for outcome in first[0].outcomes] == [len(p) for p in expert_paths]
    assert first[0].successes == 2
    for left, right in zip(sum(here, []), sum(there, []), strict=True):
        assert left.keys() == right.keys() >= set(CAMERAS)
        assert all(np.array_equal(left[key], right[key]) for key in left)


def test_what_a_worker_raises_arrives():
    settings = stepping.StepperSettings((), 32, 1)
    with stepping.steppers(settings, 1) as hosts:
        with pytest.raises(base.UnknownEnvironment):
            hosts.run([stepping.Begin("metaworld/nothing", 1, "", slot=0)])
        hosts._processes[0].kill()
        hosts._processes[0].join()
        with pytest.raises(DataError) as caught:
            hosts.run([stepping.Begin(DRAWER, 1, "", slot=0)])
    assert caught.value.code == "WM863"
