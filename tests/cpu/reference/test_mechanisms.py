"""Every mechanism equals its reference: loss terms, gradients, answers."""

import pytest
import torch

from tests.cpu.conftest import SPECS, random_batch
from tests.cpu.reference import arrangements, changes, mechanisms, trunks
from tests.cpu.reference.compare import assert_same_loss, assert_same_policy

REFERENCES = (mechanisms, trunks, arrangements, changes)
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


def padding():
    """What a batch says of its numbers; one step has none, another is beyond its episode."""
    generator = torch.Generator().manual_seed(2)
    action = torch.rand(3, 6, 3, generator=generator) < 0.6
    action[0, 4] = False
    state = torch.rand(3, 1, 4, generator=generator) < 0.5
    valid = torch.ones(3, 6, dtype=torch.bool)
    valid[1, 5] = False
    goal = torch.tensor([[True], [False], [True]])
    return {"action.numbers": action, "action.valid": valid, "state.numbers": state,
            "goal.valid": goal}  # fmt: skip


def test_padded_numbers_read_as_zero_and_have_no_error(compiled):
    module = compiled(SPECS / "padded.wm")
    batch = {**random_batch(module, 3), **padding()}
    assert_same_loss(module, LOSSES["padded"], batch)
    other = dict(batch)
    for name in ("action", "state"):
        other[name] = torch.where(batch[f"{name}.numbers"], batch[name], 1e3)
    one, two = (module.loss(b, torch.Generator().manual_seed(1)) for b in (batch, other))
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    one, two = (
        module.query("policy", b, torch.Generator().manual_seed(1), steps=2)
        for b in (batch, other)
    )
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"numbers'\] is \[3, 6\]"):
        module.loss({**batch, "action.numbers": batch["action.valid"]})
