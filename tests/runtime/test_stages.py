"""Stages: who is trained by what at which rate, and a kill anywhere resumes bitwise equal."""

import dataclasses
import json
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import wmdsl
from tests.runtime.conftest import SETTINGS, write_dataset
from wmdsl.runtime import errors
from wmdsl.runtime.run import RunDirectory
from wmdsl.runtime.stages import declared_steps, optimizer_of, phases, weights_by_label
from wmdsl.runtime.train import metrics, train

SPEC = Path(__file__).with_name("staged.wm")
ATLAS = Path(__file__).parents[2] / "examples" / "atlas"
STEPS = dataclasses.replace(SETTINGS, steps=9, checkpoint_every=2)


def fresh_module(seed=0):
    torch.manual_seed(seed)
    return wmdsl.compile(SPEC)


@pytest.fixture(scope="module")
def sources(dataset, tmp_path_factory):
    films = write_dataset(tmp_path_factory.mktemp("films") / "noise")
    return {"films": films, "robot": dataset}


@pytest.fixture(scope="module")
def whole(sources, tmp_path_factory):
    """A staged run that was never interrupted."""
    out = tmp_path_factory.mktemp("staged") / "whole"
    return train(fresh_module(), sources, out, STEPS, progress=False)


def same(one, other):
    a, b = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_steps_are_shared_out_as_declared():
    """The stage that declares none counts as the mean of 200 and 100."""
    found = phases(fresh_module().plan.model, STEPS)
    assert [(p.stage, p.first, p.last) for p in found] == [
        ("look", 0, 4), ("warm", 4, 7), ("act", 7, 9),
    ]  # fmt: skip
    assert [p.rates for p in found] == [
        {"rest": 0.01}, {"rest": STEPS.learning_rate}, {"seer": 1e-4, "rest": 1e-3},
    ]  # fmt: skip
    assert [p.data for p in found] == [{"films": 1}, {"films": 1, "robot": 3}, {"robot": 1}]
    assert declared_steps(fresh_module().plan.model) is None


def test_the_plan_tells_what_a_stage_does():
    look, warm, act = fresh_module().plan.stages
    assert look.trained == ("eyes", "seer") and look.losses == ("foresight",)
    assert warm.trained == ("eyes", "doer", "watch") and warm.losses == ("act",)
    assert act.rates == {"seer": Fraction(1, 10000), "rest": Fraction(1, 1000)}
    module = fresh_module()
    trained = {
        value
        for modules in module.trained("look").values()
        for owner in modules
        for value in owner.parameters()
    }
    assert look.weights == sum(value.numel() for value in trained)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [("", "foresight + 2 * act"), ("look", "foresight"), ("warm", "2 * act"),
     ("act", "foresight + 2 * act")],
)  # fmt: skip
def test_the_loss_of_a_stage_is_that_of_its_terms(stage, expected):
    from wmdsl.runtime.sample import random_batch

    module = fresh_module()
    batch = random_batch(module.plan.model, 3)
    found = module.loss(batch, torch.Generator().manual_seed(1), stage=stage)
    terms = {name: value for name, value in found.items() if name != "loss"}
    torch.testing.assert_close(found["loss"], eval(expected, {}, terms))


def test_a_stage_changes_what_it_trains_and_nothing_else(sources, tmp_path):
    before, module = fresh_module().state_dict(), fresh_module()
    train(module, sources, tmp_path / "r", STEPS, progress=False, stop_after=4)
    changed = {
        name.partition(".")[0]
        for name, value in module.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed - {"state_mean", "state_scale", "action_mean", "action_scale"} == {
        "seer", "eyes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [("worldvla", {"act": 0.5, "next": 0.02}),
     ("cosmos_policy", {"everything.act": 5, "everything.world": 2.5, "everything.judge": 2.5})],
)  # fmt: skip
def test_a_term_counts_by_the_share_of_its_layout(name, expected):
    model = wmdsl.plan(ATLAS / f"{name}.wm", size="tiny").model
    found = weights_by_label(model, "", ["loss", *expected])
    assert found == pytest.approx(expected)


def test_each_part_has_its_own_rate():
    module = fresh_module()
    phase = phases(module.plan.model, STEPS)[-1]
    optimizer = optimizer_of(module, phase, frozenset(module.parameters()), STEPS)
    rates = {value: group["highest"] for group in optimizer.param_groups
             for value in group["params"]}  # fmt: skip
    for name, value in module.named_parameters():
        assert rates[value] == (1e-4 if name.startswith("seer") else 1e-3)


def test_the_log_names_the_stage(whole):
    assert [line["stage"] for line in metrics(RunDirectory(whole))] == (
        ["look"] * 4 + ["warm"] * 3 + ["act"] * 2
    )


@pytest.mark.parametrize("stop", [3, 4, 5, 7])
def test_a_stopped_run_resumes_bitwise_equal(whole, sources, tmp_path, stop):
    train(fresh_module(), sources, tmp_path / "r", STEPS, progress=False, stop_after=stop)
    train(fresh_module(7), sources, tmp_path / "r", STEPS, progress=False, resume=True)
    assert same(whole, tmp_path / "r")
    found, expected = (
        [line["loss"] for line in metrics(RunDirectory(run))] for run in (tmp_path / "r", whole)
    )
    assert found == expected


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.runtime.test_stages import STEPS, fresh_module
from wmdsl.runtime import checkpoint, train

out, films, robot, moment, step = *map(Path, sys.argv[1:4]), sys.argv[4], int(sys.argv[5])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Mortal(train.Trainer):
    def _batch(self):
        if moment == "within" and self.step == step:
            die()
        return super()._batch()

    def save(self):
        if moment == "saving" and self.step == step:
            checkpoint.write_json = lambda *_: die()
        super().save()
        if moment == "saved" and self.step == step:
            die()

train.Trainer = Mortal
train.train(fresh_module(), {"films": films, "robot": robot}, out, STEPS, progress=False)
"""


@pytest.mark.parametrize(
    ("moment", "step", "stage", "left"),
    [
        ("within", 3, "look", 2),  # in the first stage, after the last checkpoint
        ("saved", 4, "look", 4),  # between: the first stage is done, the second not begun
        ("within", 5, "look", 4),  # in the second stage, before any checkpoint of its own
        ("within", 7, "warm", 6),  # between the second and the third
        ("saving", 6, "look", 4),  # while a checkpoint of the second stage is written
    ],
)
def test_a_killed_process_resumes_bitwise_equal(
    moment, step, stage, left, whole, sources, tmp_path
):
    out = tmp_path / "killed"
    places = [str(path) for path in (out, sources["films"], sources["robot"])]
    command = [sys.executable, "-c", KILLED, *places, moment, str(step)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL
    run = RunDirectory(out)
    assert run.checkpoint_steps()[-1] == left
    position = run.checkpoints / f"step-{left:06d}" / "position.json"
    assert json.loads(position.read_text())["stage"] == stage
    train(fresh_module(7), sources, out, STEPS, progress=False, resume=True)
    assert same(whole, out)
    found, expected = ([line["loss"] for line in metrics(RunDirectory(r))] for r in (out, whole))
    assert found == expected


def test_a_checkpoint_names_its_stage(whole):
    run = RunDirectory(whole)
    positions = [run.checkpoints / f"step-{step:06d}" / "position.json"
                 for step in run.checkpoint_steps()]  # fmt: skip
    assert [json.loads(path.read_text())["stage"] for path in positions] == ["act", "act"]


def test_other_steps_and_unknown_sources_are_refused(sources, tmp_path):
    out = tmp_path / "r"
    train(fresh_module(), sources, out, STEPS, progress=False, stop_after=1)
    longer = dataclasses.replace(STEPS, steps=12)
    with pytest.raises(errors.RunError, match="WM872"):
        train(fresh_module(), sources, out, longer, progress=False, resume=True)
    with pytest.raises(errors.RunError, match="data source 'robot'"):
        train(fresh_module(), {"films": sources["films"], "cars": sources["robot"]},
              tmp_path / "s", STEPS, progress=False)  # fmt: skip


def test_a_folder_without_a_name_is_every_source(dataset, tmp_path):
    train(fresh_module(), dataset, tmp_path / "r", STEPS, progress=False, stop_after=5)
    assert RunDirectory(tmp_path / "r").checkpoint_steps()


def test_a_stage_whose_losses_reach_none_of_its_parts_is_refused(dataset, tmp_path):
    spec = SPEC.read_text().replace("train seer, eyes; losses", "train doer; losses")
    with pytest.raises(errors.RunError, match="stage look trains no weight"):
        train(wmdsl.compile(spec), dataset, tmp_path / "r", STEPS, progress=False)
