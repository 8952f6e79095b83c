"""Each published system at tiny size trains, stage by stage, and resumes bitwise equal."""

import copy
import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from tests.atlas.systems import SYSTEMS
from wmdsl.runtime import train
from wmdsl.runtime.run import RunDirectory, write_json
from wmdsl.runtime.sample import random_batch
from wmdsl.runtime.settings import TrainSettings
from wmdsl.runtime.stages import phases
from wmdsl.runtime.train import Trainer

pytestmark = pytest.mark.slow
EACH = 2  # steps of a stage
FIT = 12  # steps on one batch
SETTINGS = TrainSettings(warm_up=1, share_every=0, checkpoint_every=1000, precision="fp32")


class Samples:
    """A loader of random samples, other ones at each step."""

    def __init__(self, model):
        self.model, self.step = model, 0

    def next_batch(self, generator):
        self.step += 1
        return random_batch(self.model, 2, seed=self.step)

    def state_dict(self):
        return {"step": self.step}

    def load_state_dict(self, state):
        self.step = state["step"]


class Feed:
    """The same samples for every stage, from the first one on."""

    def of(self, phase):
        return Samples(self.model)

    def __init__(self, model):
        self.model = model


def trainer(module, path, settings):
    return Trainer(copy.deepcopy(module), Feed(module.plan.model), RunDirectory(path), settings)


def scattered(module):
    """Other weights than those of the module: everything must come from the checkpoint."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        for value in other.parameters():
            value.mul_(0.5)
    return other


@pytest.mark.parametrize("name", SYSTEMS)
def test_training_resumes_bitwise_equal_inside_and_across_stages(
    name, system, tmp_path, monkeypatch
):
    module = system(name)
    found = phases(module.plan.model, dataclasses.replace(SETTINGS, steps=10**9))
    stages = max(len(module.plan.model.stages), 1)
    assert len(found) == stages
    short = tuple(
        dataclasses.replace(phase, first=EACH * at, last=EACH * (at + 1))
        for at, phase in enumerate(found)
    )
    monkeypatch.setattr(train, "phases", lambda *_: short)
    settings = dataclasses.replace(SETTINGS, steps=EACH * stages)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for path in (whole, parts):
        path.mkdir()
        described = {"spec_sha256": module.plan.model.sha256, "settings": settings.to_json()}
        write_json(RunDirectory(path).training, described)
    torch.manual_seed(0)
    trainer(module, whole, settings).run_until(settings.steps, False)
    torch.manual_seed(0)
    for last in range(1, settings.steps + 1):
        part = trainer(module if last == 1 else scattered(module), parts, settings)
        part.resume()
        part.run_until(last, False)
    one, other = (load_file(path / "model.safetensors") for path in (whole, parts))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    changed = module.state_dict()
    assert any(not torch.equal(one[key], changed[key]) for key in one)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_few_steps_fit_a_batch(name, system):
    """With the same samples and noise at every step, the loss falls."""
    module = copy.deepcopy(system(name)).train()
    batch = random_batch(module.plan.model, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(FIT):
        loss = module.loss(batch, generator=torch.Generator().manual_seed(3))["loss"]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        module.after_step()
    assert losses[-1] < 0.97 * losses[0], losses
