"""Demonstrations: the same bytes for the same request, however they came about."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.faithful.dot_world import DotWorld
from wmdsl.data import keys
from wmdsl.data.errors import DataError
from wmdsl.data.lerobot import PROVENANCE_PATH, read_json
from wmdsl.data.reader import Dataset
from wmdsl.environments import demonstrate, make
from wmdsl.environments.demonstrate import Recording, demos, record_attempt

TASKS = ("metaworld/faucet-open-v3", "metaworld/faucet-close-v3")
REQUEST = {"seed": 4, "size": 32, "progress": False}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two tasks, one episode each, by one worker."""
    root = tmp_path_factory.mktemp("demos") / "faucets"
    return demos(TASKS, 1, root, workers=1, **REQUEST)


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_rows_and_frames_are_those_of_the_seeds(recorded):
    opened = Dataset(recorded.root)
    assert opened.tasks == ("open the faucet", "close the faucet")
    assert (opened.info.fps, opened.info.stride(keys.image_key("corner"))) == (80, 4)
    assert recorded.episodes == dict.fromkeys(TASKS, 1)
    episode = read_json(recorded.root / PROVENANCE_PATH, "")["episodes"][1]
    recording = Recording(4, ("corner", "wrist"), 20, 32, 2, 32)
    again = record_attempt(make(episode["environment"]), episode["seed"], recording)
    rows = opened.columns([keys.STATE, keys.ACTION])
    own = slice(opened.episodes.start[1], opened.episodes.stop[1])
    for key, values in rows.items():
        assert np.array_equal(values[own], again[key])
    for camera in ("corner", "wrist"):
        key = keys.image_key(camera)
        frames = np.stack(list(opened.frames(key)))
        starts = opened.frame_starts(key)
        assert np.array_equal(frames[starts[1] :], again[key])
    assert np.abs(rows[keys.ACTION]).max() <= 1


def test_an_episode_ends_after_its_success_and_the_tail():
    environment = make(TASKS[0])
    for tail in (0, 5):
        arrays = record_attempt(environment, 4, Recording(0, (), 20, 32, 1, tail))
        environment.reset(4)
        successes = [environment.step(action)[1] for action in arrays[keys.ACTION]]
        assert successes.index(True) == len(successes) - 1 - tail


def test_running_it_again_keeps_what_is_there(recorded):
    again = demos(TASKS, 1, recorded.root, workers=1, **REQUEST)
    assert again.seconds == 0
    assert again.episodes == recorded.episodes
    with pytest.raises(DataError) as caught:
        demos(TASKS, 2, recorded.root, **REQUEST)
    assert caught.value.code == "WM860"


def test_kill_and_resume_gives_the_same_bytes(recorded, tmp_path):
    """One worker, killed after the first finished episode; two end what it began."""
    root = tmp_path / "faucets"
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from wmdsl.environments.demonstrate import demos\n"
        f"demos({TASKS!r}, 1, {str(root)!r}, workers=1, **{REQUEST!r})\n"
    )
    process = subprocess.Popen(
        [sys.executable, script], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    wait_for(lambda: list(tmp_path.glob(".faucets.demos-*/*/*.npz")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not root.exists()
    summary = demos(TASKS, 1, root, workers=2, **REQUEST)
    assert contents(root) == contents(recorded.root)
    assert summary.rows == recorded.rows
    assert list(tmp_path.glob(".*")) == []


def wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
    return condition()


def test_a_finished_attempt_is_not_recorded_again(tmp_path):
    """No such environment exists, so recording would fail."""
    recording = Recording(0, (), 20, 32, 1, 0)
    (tmp_path / "no_task").mkdir()
    (tmp_path / "no_task/000003.npz").touch()
    (tmp_path / "no_task/000004.failed").touch()
    assert demonstrate._attempt(("no/task", 3), recording, tmp_path) is True
    assert demonstrate._attempt(("no/task", 4), recording, tmp_path) is False


def test_failures_are_counted_and_replaced(tmp_path, monkeypatch):
    """Odd attempts fail: the first two even ones are kept."""
    monkeypatch.setattr(demonstrate, "ProcessPoolExecutor", InProcess)
    real = demonstrate.record_attempt

    def fragile(environment, seed, recording):
        return None if (seed // 2) % 2 else real(environment, seed, recording)

    monkeypatch.setattr(demonstrate, "record_attempt", fragile)
    summary = demos(TASKS[0], 2, tmp_path / "d", size=16, cameras=["wrist"], progress=False)
    assert summary.failures == {TASKS[0]: 1}
    episodes = read_json(tmp_path / "d" / PROVENANCE_PATH, "")["episodes"]
    assert [episode["attempt"] for episode in episodes] == [0, 2]
    monkeypatch.setattr(demonstrate, "record_attempt", lambda *_: None)
    with pytest.raises(DataError) as caught:
        demos(TASKS[0], 2, tmp_path / "e", progress=False)
    assert caught.value.code == "WM861"


class InProcess:
    """The part of a process pool that `demos` uses, without processes."""

    def __init__(self, *_, **__):
        pass

    def map(self, function, jobs):
        return map(function, jobs)

    def shutdown(self, **_):
        pass


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("WM856", {"camera_hz": 30}),
        ("WM854", {"cameras": ["corner", "wirst"]}),
        ("WM862", {"episodes": 0}),
        ("WM862", {"episodes": {TASKS[0]: 3, TASKS[1]: 0}}),
    ],
)
def test_requests_that_cannot_be_met(tmp_path, code, change):
    request = {"environments": TASKS, "episodes": 1, "out": tmp_path / "d", **change}
    with pytest.raises(DataError) as caught:
        demos(**request, progress=False)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError) as caught:
        demos(TASKS[0], 1, Path(tmp_path / "file" / "d"), progress=False)
    assert caught.value.code == "WM859"


def test_an_exploring_episode_holds_random_actions_for_spans():
    recording = Recording(0, ("top",), 10, 16, 1, 0, explore=0.5)
    first, again = (record_attempt(DotWorld(), 6, recording) for _ in range(2))
    actions = first[keys.ACTION]
    assert all(np.array_equal(first[key], again[key]) for key in first)
    spans = [actions[at : at + 8] for at in range(0, len(actions) - 8, 8)]
    held = [np.array_equal(span, span[:1].repeat(8, 0)) for span in spans]
    assert 0 < sum(held) < len(held)
    assert len(actions) == len(first[keys.STATE]) and np.abs(actions).max() <= 1


def test_an_exploring_episode_is_kept_even_if_it_fails():
    rows = record_attempt(DotWorld(), 6, Recording(0, ("top",), 10, 16, 1, 0, explore=1.0))
    assert rows is not None and len(rows[keys.ACTION]) == DotWorld.spec.max_steps


def test_a_share_explored_is_a_share(tmp_path):
    with pytest.raises(DataError, match="share of 2"):
        demos("metaworld/reach-v3", 1, tmp_path / "d", explore=2.0, progress=False)
