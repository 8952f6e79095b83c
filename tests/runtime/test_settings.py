"""What a training may be told, and what may change where it is continued."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch

import wmdsl
from tests.runtime.conftest import SETTINGS, SIZE, SPEC, fresh_module
from wmdsl.data import keys
from wmdsl.runtime import errors
from wmdsl.runtime.ask import ask_run
from wmdsl.runtime.session import Session
from wmdsl.runtime.settings import FREE, TrainSettings
from wmdsl.runtime.train import train
from wmdsl.tools import cli


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("batch_size", 0), ("learning_rate", math.nan), ("weight_decay", -1.0),
     ("warm_up", -1), ("decay", 7.0), ("clip", -1.0), ("ema", 1.5), ("precision", "fp8"),
     ("log_every", 0), ("share_every", -1), ("checkpoint_every", 0), ("threads", -1)],
)  # fmt: skip
def test_what_cannot_be_is_refused(name, value):
    with pytest.raises(errors.RunError, match=f"{name} is {value}") as caught:
        TrainSettings(**{name: value})
    assert caught.value.code == "WM887"


@pytest.fixture
def begun(dataset, tmp_path):
    """A run that stands at step 2 of 6."""
    out = tmp_path / "begun"
    train(fresh_module(), dataset, out, SETTINGS, progress=False, stop_after=2)
    return out


def continued(dataset, out, **changed):
    settings = dataclasses.replace(SETTINGS, **changed)
    return train(fresh_module(), dataset, out, settings, progress=False, resume=True)


@pytest.mark.parametrize(
    "changed", [{"batch_size": 8}, {"seed": 3}, {"blind": True}, {"learning_rate": 5e-4}]
)
def test_a_run_goes_on_as_it_was_begun(dataset, begun, changed):
    (name,) = changed
    with pytest.raises(errors.RunError, match=f"begun with {name}"):
        continued(dataset, begun, **changed)
    assert json.loads((begun / "train.json").read_text())["settings"] == SETTINGS.to_json()


def test_more_steps_are_written_down(dataset, begun):
    continued(dataset, begun, steps=8)
    described = json.loads((begun / "train.json").read_text())
    assert described["settings"]["steps"] == 8 and described["finished"]
    assert "steps" in FREE


def test_a_run_that_goes_on_is_not_finished(dataset, finished, tmp_path):
    out = tmp_path / "longer"
    shutil.copytree(finished, out)
    settings = dataclasses.replace(SETTINGS, steps=8)
    train(fresh_module(), dataset, out, settings, progress=False, resume=True, stop_after=7)
    assert json.loads((out / "train.json").read_text())["finished"] is False
    continued(dataset, out, steps=8)
    assert json.loads((out / "train.json").read_text())["finished"] is True


def test_fewer_steps_than_were_done_are_refused(dataset, begun):
    with pytest.raises(errors.RunError, match="steps is 1") as caught:
        continued(dataset, begun, steps=1)
    assert "at least 2" in caught.value.help


def test_a_finished_run_without_checkpoints_is_not_begun_again(dataset, finished, tmp_path):
    out = tmp_path / "finished"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "checkpoints")
    weights = (out / "model.safetensors").read_bytes()
    with pytest.raises(errors.RunError, match="no checkpoint to continue at"):
        continued(dataset, out, steps=8)
    assert (out / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("{"), lambda path: path.unlink()])
@pytest.mark.parametrize("file", ["position.json", "optimizer.safetensors"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(
    dataset, finished, tmp_path, file, spoil
):
    out = tmp_path / "damaged"
    shutil.copytree(finished, out)
    earlier, last = sorted((out / "checkpoints").iterdir())
    spoil(last / file)
    with pytest.raises(errors.RunError, match=file) as caught:
        continued(dataset, out)
    assert caught.value.where == str(last) and "remove this folder" in caught.value.help
    shutil.rmtree(last)
    continued(dataset, out)
    shutil.rmtree(last)
    spoil(earlier / file)
    with pytest.raises(errors.RunError, match="damaged") as caught:
        continued(dataset, out)
    assert "no other checkpoint" in caught.value.help


@pytest.mark.parametrize(
    ("statistics", "message"),
    [({}, "'"), ({"mean": [math.nan] * 2, "std": [1, 1]}, "2 finite numbers of action"),
     ({"mean": [0.0], "std": [1.0]}, "2 finite numbers of action"), (3, "")],
)  # fmt: skip
def test_spoilt_statistics_are_told(finished, tmp_path, statistics, message):
    out = tmp_path / "spoilt"
    shutil.copytree(finished, out)
    found = json.loads((out / "stats.json").read_text())
    name = next(key for key in found if "action" in key)
    (out / "stats.json").write_text(json.dumps({**found, name: statistics}))
    with pytest.raises(errors.RunError, match="statistics do not fit") as caught:
        wmdsl.load(out)
    assert message in caught.value.what


def test_a_run_cannot_stand_where_a_file_does(dataset, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(errors.RunError, match="a file stands"):
        train(fresh_module(), dataset, file, SETTINGS, progress=False)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "name"),
    [(["--device", "tpu"], "device"), (["--batch-size", "0"], "batch_size"),
     (["--steps", "-3"], "steps"), (["--precision", "fp8"], "precision")],
)  # fmt: skip
def test_the_command_line_says_what_may_be_given(dataset, tmp_path, capsys, words, name):
    out = tmp_path / "run"
    command = ["train", str(SPEC), "--data", str(dataset), "-o", str(out), *words]
    assert cli.main(command) == 2
    assert f"error[WM887]: {name} is" in capsys.readouterr().err
    assert not out.exists()


def test_a_question_needs_a_sample(finished, dataset, tmp_path):
    with pytest.raises(errors.RunError, match="samples is 0"):
        ask_run(finished, "world", dataset, tmp_path, samples=0)


OBSERVATION = {
    keys.STATE: np.zeros(3, np.float32), keys.TASK: "task",
    keys.image_key("top"): np.zeros((*SIZE, 3), np.uint8),
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [(keys.image_key("top"), np.zeros((*SIZE, 3), np.float32), "float32"),
     (keys.image_key("top"), np.zeros((3, *SIZE), np.uint8), r"\[3, 16, 24\]"),
     (keys.STATE, np.full(3, np.nan), "nan"), (keys.TASK, 3, "is 3")],
)  # fmt: skip
def test_a_session_is_shown_what_training_saw(finished, key, value, message):
    session = Session(wmdsl.load(finished))
    assert session.step(OBSERVATION).shape == (2, 2)
    session.reset()
    with pytest.raises(errors.RunError, match=message):
        session.step({**OBSERVATION, key: value})


def batch_of(**changed):
    batch = {
        "top": torch.rand(2, 1, 3, *SIZE), "state": torch.rand(2, 1, 3),
        "task": torch.ones(2, 16, dtype=torch.long), "action": torch.rand(2, 4, 2),
    }  # fmt: skip
    return {**batch, **changed}


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"state": torch.rand(1, 1, 3)}, "2 of top, 1 of state"),
     ({"top": torch.zeros(2, 1, 3, *SIZE, dtype=torch.uint8)}, "uint8; .* floating"),
     ({"task": torch.rand(2, 16)}, "float32; .* whole"), ({"state": [[0.0] * 3] * 2}, "is list")],
)  # fmt: skip
def test_a_batch_that_would_be_taken_amiss_is_refused(changed, message):
    module = fresh_module()
    for ask in (module.loss, lambda batch: module.query("policy", batch)):
        with pytest.raises(ValueError, match=message):
            ask(batch_of(**changed))


def test_a_query_takes_a_step_at_least():
    module = fresh_module()
    for option in ("steps", "draws"):
        with pytest.raises(ValueError, match=f"{option} is 0"):
            module.query("policy", batch_of(), **{option: 0})
    with pytest.raises(ValueError, match="steps is -2"):
        module.query("policy", batch_of(), None, -2)
    with pytest.raises(ValueError, match="there is no query 'nope'"):
        module.log_density("nope", batch_of())
