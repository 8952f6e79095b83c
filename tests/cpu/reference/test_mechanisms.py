"""Every mechanism equals its reference: loss terms, gradients, answers."""

import pytest
import torch

from tests.cpu.conftest import SPECS, random_batch
from tests.cpu.reference import arrangements, mechanisms, trunks
from tests.cpu.reference.compare import assert_same_loss, assert_same_policy

REFERENCES = (mechanisms, trunks, arrangements)
LOSSES = {name: loss for part in REFERENCES for name, loss in part.LOSSES.items()}
POLICIES = {name: ask for part in REFERENCES for name, ask in part.POLICIES.items()}


def test_every_spec_has_a_reference():
    searched = {"planners"}  # whose reference is that of the searches
    assert {path.stem for path in SPECS.glob("*.wm")} == LOSSES.keys() | searched


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients(name, compiled):
    module = compiled(SPECS / f"{name}.wm")
    assert_same_loss(module, LOSSES[name], random_batch(module, 3))


@pytest.mark.parametrize("name", POLICIES)
def test_policy(name, compiled):
    module = compiled(SPECS / f"{name}.wm")
    assert_same_policy(module, POLICIES[name], random_batch(module, 3))


def test_samples_of_other_bodies_and_sources(compiled):
    module = compiled(SPECS / "kinds.wm")
    more = {"embodiment": torch.tensor([1, 0, 1]), "source": torch.tensor([0, -1, 0])}
    assert_same_loss(module, LOSSES["kinds"], {**random_batch(module, 3), **more})
