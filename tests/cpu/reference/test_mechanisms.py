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


@pytest.mark.parametrize("numbers", [[0, -1, 0], [-1, -1, -1]])
def test_a_layout_learns_from_its_own_sources(numbers, compiled):
    module = compiled(SPECS / "arranged.wm")
    batch = {**random_batch(module, 3), "source": torch.tensor(numbers)}
    assert_same_loss(module, LOSSES["arranged"], batch)


def test_a_foreign_sample_gives_a_layout_no_gradient(compiled):
    """Term and gradients are those of the batch without it, and none where all are foreign."""
    module = compiled(SPECS / "arranged.wm")
    batch = {**random_batch(module, 3), "source": torch.tensor([0, -1, 0])}
    own = {name: value[[0, 2]] for name, value in batch.items()}
    mixed, alone = module.loss_world(batch)["next"], module.loss_world(own)["next"]
    torch.testing.assert_close(mixed, alone)
    weights = list(module.lm.parameters())
    one, other = (torch.autograd.grad(x, weights, allow_unused=True) for x in (mixed, alone))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    none = module.loss_world({**batch, "source": torch.tensor([-1, -1, -1])})["next"]
    assert float(none.detach()) == 0
    found = torch.autograd.grad(none, weights, allow_unused=True)
    assert all(not gradient.any() for gradient in found if gradient is not None)
