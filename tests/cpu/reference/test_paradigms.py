"""Every paradigm equals its reference: loss terms, gradients, policies."""

import pytest
import torch

from tests.cpu.conftest import PARADIGMS, random_batch
from tests.cpu.reference.paradigms import LOSSES, POLICIES


def weights_of(module):
    """Weights and buffers by name; gradients flow into the module's own tensors."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def partly_valid(batch):
    """The batch with some samples declared invalid."""
    generator = torch.Generator().manual_seed(5)
    for name in ("corner", "action"):
        batch[f"{name}.valid"] = torch.rand(batch[name].shape[:2], generator=generator) < 0.7
    return batch


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("masked", [False, True], ids=["all valid", "partly valid"])
def test_loss_and_gradients(name, masked, compiled):
    module = compiled(PARADIGMS / f"{name}.wm")
    batch = random_batch(module, 2)
    batch = partly_valid(batch) if masked else batch
    found = module.loss(batch, torch.Generator().manual_seed(7))
    wanted = LOSSES[name](weights_of(module), batch, torch.Generator().manual_seed(7))
    assert found.keys() == wanted.keys()
    for term, value in wanted.items():
        torch.testing.assert_close(found[term], value, rtol=1e-9, atol=1e-11)
    ours, theirs = gradients(module, found["loss"]), gradients(module, wanted["loss"])
    assert ours.keys() == theirs.keys()
    for weight, gradient in theirs.items():
        torch.testing.assert_close(ours[weight], gradient, rtol=1e-7, atol=1e-10, msg=weight)


@pytest.mark.parametrize("name", POLICIES)
def test_policy(name, compiled):
    module = compiled(PARADIGMS / f"{name}.wm")
    batch = random_batch(module, 2)
    found = module.query("policy", batch, torch.Generator().manual_seed(3), steps=3)["action"]
    with torch.no_grad():
        wanted = POLICIES[name](weights_of(module), batch, torch.Generator().manual_seed(3), 3)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)
