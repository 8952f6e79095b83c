"""Jobs side by side, and what a comparison makes of specs and budgets."""

import json
from pathlib import Path

import pytest

from tests.runtime.conftest import SPEC
from wmdsl.runtime import compare as comparison
from wmdsl.runtime import errors
from wmdsl.runtime.compare import Budget, Faithful, _job, compare, spec_files
from wmdsl.runtime.jobs import Job, last_count, run_jobs
from wmdsl.runtime.settings import TrainSettings
from wmdsl.weights.errors import WeightsError


def test_commands_of_a_job_run_in_turn(tmp_path):
    log = tmp_path / "job.log"
    run_jobs([Job("two", log, (("--version",), ("--help",)))], workers=1, progress=False)
    text = log.read_text()
    assert text.index("wmdsl 0.1.0") < text.index("usage: wmdsl VERB")


def test_a_failed_job_stops_all_and_shows_its_log(tmp_path):
    jobs = [Job("bad", tmp_path / "bad.log", (("train", "none.wm", "--data", "x", "-o", "y"),)),
            Job("idle", tmp_path / "idle.log", (("--version",),))]  # fmt: skip
    with pytest.raises(errors.RunError, match="bad ended with exit code") as caught:
        run_jobs(jobs, workers=1, progress=False)
    assert "none.wm" in str(caught.value)
    assert not (tmp_path / "idle.log").exists()


def test_the_newest_count_of_a_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("training x: 3/10  1.0/s  7 s left\ntraining x: 4/10  1.1/s  6 s left  loss 2\n")
    assert last_count(log) == (4, 10, "1.1/s  6 s left  loss 2")
    log.write_text("nothing yet\n")
    assert last_count(log) is None


def test_folders_stand_for_the_specs_directly_in_them(tmp_path):
    (tmp_path / "lib").mkdir()
    for name in ("b.wm", "a.wm", "lib/part.wm", "note.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in spec_files([tmp_path, SPEC])] == ["a.wm", "b.wm", "tiny.wm"]


def test_a_finished_job_has_nothing_to_do_and_a_stopped_one_resumes(finished, tmp_path):
    budget = Budget(TrainSettings(steps=6), seeds=(0,))
    arguments = (tmp_path, ["suite/task"], budget, 0, False)
    fresh = _job(SPEC, tmp_path / "new", *arguments)
    assert [command[0] for command in fresh.commands] == ["train", "eval"]
    assert "--resume" not in fresh.commands[0]
    trained = _job(SPEC, finished, *arguments)
    assert [command[0] for command in trained.commands] == ["eval"]
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "train.json").write_text(json.dumps({"finished": False}))
    assert "--resume" in _job(SPEC, stopped, *arguments).commands[0]


def test_a_blind_job_has_its_own_steps_and_tasks(tmp_path):
    budget = Budget(TrainSettings(steps=600), (0,), 200, blind_tasks=("suite/task",))
    job = _job(SPEC, tmp_path / "b", tmp_path, budget.blind_tasks, budget, 0, blind=True)
    train, evaluate = job.commands
    assert "--blind" in train and train[train.index("--steps") + 1] == "200"
    assert "--swap" not in evaluate and "--strips" not in evaluate


def test_weights_are_given_to_the_specs_that_name_any(tmp_path):
    named = tmp_path / "named.wm"
    inside = 'codec words: tokenizer { from "a/b"; vocabulary 9; tokens 4 }'
    text = SPEC.read_text().replace("codec words: bytes { layers 0; width 8 }", inside)
    named.write_text(text)
    budget = Budget(TrainSettings(), (0,), weights="random")
    arguments = (tmp_path / "run", tmp_path, ["suite/task"])
    command = _job(named, *arguments, budget, 0, False).commands[0]
    assert command[command.index("--weights") + 1] == "random"
    assert "--weights" not in _job(SPEC, *arguments, budget, 0, False).commands[0]
    with pytest.raises(WeightsError, match="names pretrained weights: a/b"):
        _job(named, *arguments, Budget(TrainSettings(), (0,)), 0, False)


def test_only_specs_with_a_roll_out_go_through_the_suite(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(comparison, "run_jobs", lambda jobs, *rest: ran.append(jobs))
    plain = Path("examples/paradigms/no_world_model.wm")
    faithful = Faithful(situations=3, probe_episodes=4, probe_steps=5, shuffled=True)
    budget = Budget(TrainSettings(steps=6), seeds=(0, 1), faithful=faithful)
    compare([SPEC, plain], tmp_path, ["suite/task"], tmp_path, budget, progress=False)
    trained, rolled = ({job.title: job.commands for job in jobs} for jobs in ran)
    assert list(rolled) == ["tiny seed 0 faithful", "tiny seed 1 faithful"]
    (baseline,) = trained["tiny shuffled"]
    assert "--shuffle-actions" in baseline and baseline[baseline.index("--steps") + 1] == "6"
    ((verb, run, *words),) = rolled["tiny seed 1 faithful"]
    assert (verb, run) == ("faithful", str(tmp_path / "runs" / "tiny-seed1"))
    told = dict(zip(words[::2], words[1::2], strict=True))
    assert told["--shuffled"] == str(tmp_path / "runs" / "tiny-shuffled")
    settings = ("--situations", "--probe-episodes", "--probe-steps")
    assert tuple(told[name] for name in settings) == ("3", "4", "5")


def test_a_run_that_was_rolled_out_is_not_rolled_out_again(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(comparison, "run_jobs", lambda jobs, *rest: ran.append(jobs))
    folder = tmp_path / "runs" / "tiny-seed0"
    folder.mkdir(parents=True)
    (folder / "faithful.json").write_text("{}")
    budget = Budget(TrainSettings(steps=6), seeds=(0,), faithful=Faithful())
    compare([SPEC], tmp_path, ["suite/task"], tmp_path, budget, progress=False)
    assert [job.title for job in ran[0]] == ["tiny seed 0"] and ran[1] == []
