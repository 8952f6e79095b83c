"""Training: resumes bitwise, stops at what is not finite, loses nothing."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import wmdsl
from tests.runtime.conftest import SETTINGS, SPEC, fresh_module
from wmdsl.runtime import checkpoint, errors
from wmdsl.runtime.run import RunDirectory
from wmdsl.runtime.stages import weights_of
from wmdsl.runtime.train import Trainer, metrics, resumed_settings, train


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_a_stopped_run_resumes_bitwise_equal(finished, dataset, tmp_path, stop):
    train(fresh_module(), dataset, tmp_path / "r", SETTINGS, progress=False, stop_after=stop)
    # Other weights at the start of the second process: everything must come from the checkpoint.
    train(fresh_module(7), dataset, tmp_path / "r", SETTINGS, progress=False, resume=True)
    assert_same_weights(finished, tmp_path / "r")
    whole, parts = (
        list(metrics(RunDirectory(finished))),
        list(metrics(RunDirectory(tmp_path / "r"))),
    )
    assert [line["loss"] for line in whole] == [line["loss"] for line in parts]


def test_a_killed_process_resumes_bitwise_equal(finished, dataset, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "wmdsl.tools.cli", "train", str(SPEC), "--data", str(dataset),
               "-o", str(out), "--batch-size", "4", "--checkpoint-every", "2", "--log-every", "1",
               "--share-every", "3", "--warm-up", "2", "--steps", "6"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not RunDirectory(out).checkpoint_steps() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    assert_same_weights(finished, out)


def test_the_run_directory_is_whole(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"model.wm", "model.py", "model.safetensors", "stats.json", "plan.json", "train.json",
            "metrics.jsonl", "checkpoints"} <= names  # fmt: skip
    training = json.loads((finished / "train.json").read_text())
    assert training["finished"] and training["settings"]["steps"] == SETTINGS.steps
    assert RunDirectory(finished).checkpoint_steps() == [4, 6]


def test_gradient_shares_are_logged_and_sum_to_one(finished):
    lines = [line for line in metrics(RunDirectory(finished)) if "gradient_share/act" in line]
    assert lines
    for line in lines:
        assert line["gradient_share/act"] + line["gradient_share/foresight"] == pytest.approx(1)


def test_loss_weights_are_those_of_the_spec():
    assert weights_of(fresh_module().plan.model, "") == {"foresight": 0.1, "act": 1.0}


def test_a_loaded_run_answers_like_the_averaged_weights(finished, dataset):
    module = wmdsl.load(finished)
    saved = load_file(finished / "model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in module.state_dict().items())
    stats = json.loads((finished / "stats.json").read_text())
    torch.testing.assert_close(module.action_mean, torch.tensor(stats["action"]["mean"]))


def test_a_taken_folder_is_refused(finished, dataset):
    with pytest.raises(errors.RunError, match="WM876"):
        train(fresh_module(), dataset, finished, SETTINGS, progress=False)


def test_a_loss_that_is_not_finite_stops_with_the_batch_saved(dataset, tmp_path):
    module = fresh_module()
    with torch.no_grad():
        module.body.action_out.weight.fill_(float("nan"))
    with pytest.raises(errors.RunError, match="WM874") as caught:
        train(module, dataset, tmp_path / "nan", SETTINGS, progress=False)
    batch = load_file(caught.value.where)
    assert batch["action"].shape == (4, 4, 2)


def test_no_space_keeps_the_last_checkpoint(dataset, tmp_path, monkeypatch):
    out = tmp_path / "full"
    train(fresh_module(), dataset, out, SETTINGS, progress=False, stop_after=2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(errors.RunError, match="No space left") as caught:
        train(fresh_module(), dataset, out, SETTINGS, progress=False, resume=True)
    assert caught.value.code == "WM875"
    assert RunDirectory(out).checkpoint_steps() == [2]
    monkeypatch.undo()
    train(fresh_module(), dataset, out, SETTINGS, progress=False, resume=True)
    assert (out / "model.safetensors").exists()


def test_another_spec_is_refused_on_resume(dataset, tmp_path):
    out = tmp_path / "other"
    train(fresh_module(), dataset, out, SETTINGS, progress=False, stop_after=1)
    other = wmdsl.compile(SPEC.read_text().replace("layers 1", "layers 2"))
    with pytest.raises(errors.RunError, match="WM872"):
        train(other, dataset, out, SETTINGS, progress=False, resume=True)


def test_an_edited_spec_in_a_run_is_refused(dataset, tmp_path):
    out = tmp_path / "edited"
    train(fresh_module(), dataset, out, SETTINGS, progress=False, stop_after=1)
    spec = out / "model.wm"
    spec.write_text(spec.read_text().replace("layers 1", "layers 2"))
    with pytest.raises(errors.RunError, match="WM872"):
        wmdsl.load(out)


def test_weights_that_do_not_fit_name_what_is_wrong(finished, tmp_path):
    path = tmp_path / "model.safetensors"
    weights = load_file(finished / "model.safetensors")
    moved = {f"x.{name}" if at == 0 else name: v for at, (name, v) in enumerate(weights.items())}
    checkpoint.save_tensors(path, moved)
    with pytest.raises(errors.RunError, match="1 missing .* 1 unknown"):
        checkpoint.load_into(fresh_module(), path)


def test_a_truncated_checkpoint_is_refused(finished, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((finished / "model.safetensors").read_bytes()[:100])
    with pytest.raises(errors.RunError, match="WM873"):
        checkpoint.load_into(fresh_module(), path)


def test_the_rate_warms_up_stays_and_falls_to_zero():
    settings = dataclasses.replace(SETTINGS, steps=100, warm_up=10, decay=0.5, learning_rate=1.0)
    rates = [settings.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[20] == 1.0 and rates[49] == 1.0
    assert rates[75] == pytest.approx(0.5) and rates[100] == 0.0


def test_a_blind_run_never_sees_a_pixel(dataset, tmp_path):
    """Two data sets that differ in their pixels alone give the same blind weights."""
    settings = dataclasses.replace(SETTINGS, blind=True, steps=2)
    seen = []
    module = fresh_module()
    original = module.loss

    def spy(batch, generator=None):
        seen.append(float(batch["top"].abs().max()))
        return original(batch, generator)

    module.loss = spy
    train(module, dataset, tmp_path / "blind", settings, progress=False)
    assert seen == [0.0, 0.0]


SHUFFLED = dataclasses.replace(SETTINGS, shuffle_actions=True)


def test_shuffled_actions_are_those_of_other_samples(dataset, tmp_path, monkeypatch):
    seen = []
    module = fresh_module()
    loss = module.loss

    def spy(batch, generator=None):
        seen.append(batch)
        return loss(batch, generator)

    module.loss = spy
    train(module, dataset, tmp_path / "mixed", SHUFFLED, progress=False, stop_after=1)
    monkeypatch.setattr(Trainer, "_shuffle", lambda self, batch: None)
    train(module, dataset, tmp_path / "true", SHUFFLED, progress=False, stop_after=1)
    mixed, true = seen
    assert torch.equal(mixed["state"], true["state"])
    assert not torch.equal(mixed["action"], true["action"])
    places = [[torch.equal(a, b) for b in true["action"]] for a in mixed["action"]]
    order = [row.index(True) for row in places]
    assert sorted(order) == [0, 1, 2, 3]
    assert torch.equal(mixed["action.valid"], true["action.valid"][order])


def test_a_shuffled_run_says_so_and_resumes_bitwise_equal(dataset, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(fresh_module(), dataset, whole, SHUFFLED, progress=False)
    train(fresh_module(), dataset, stopped, SHUFFLED, progress=False, stop_after=3)
    settings = resumed_settings(RunDirectory(stopped))
    assert settings.shuffle_actions
    train(fresh_module(1), dataset, stopped, settings, resume=True, progress=False)
    first, second = (load_file(run / "model.safetensors") for run in (whole, stopped))
    assert all(torch.equal(first[name], second[name]) for name in first)
