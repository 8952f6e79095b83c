"""Every paradigm equals its reference: loss terms, gradients, policies."""

import pytest
import torch

from tests.cpu.conftest import PARADIGMS, random_batch
from tests.cpu.reference.compare import assert_same_loss, assert_same_policy
from tests.cpu.reference.paradigms import LOSSES, POLICIES


def partly_valid(batch):
    """The batch with some samples declared invalid."""
    generator = torch.Generator().manual_seed(5)
    for name in ("corner", "action"):
        batch[f"{name}.valid"] = torch.rand(batch[name].shape[:2], generator=generator) < 0.7
    return batch


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("masked", [False, True], ids=["all valid", "partly valid"])
def test_loss_and_gradients(name, masked, compiled):
    module = compiled(PARADIGMS / f"{name}.wm")
    batch = random_batch(module, 2)
    assert_same_loss(module, LOSSES[name], partly_valid(batch) if masked else batch)


@pytest.mark.parametrize("name", POLICIES)
def test_policy(name, compiled):
    module = compiled(PARADIGMS / f"{name}.wm")
    assert_same_policy(module, POLICIES[name], random_batch(module, 2))
