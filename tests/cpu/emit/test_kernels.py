"""The kernels change the speed of an emitted module, and nothing else."""

import sys

import pytest
import torch

import wmdsl
import wmdsl_kernels
from tests.cpu.conftest import PARADIGMS
from wmdsl.blocks import standalone
from wmdsl.runtime.sample import random_batch

SPECS = sorted(PARADIGMS.glob("*.wm"))


def dense_attention(query, key, value, schedule=None):
    """The stand-in of files without kernels, given a schedule of ours."""
    mask = None if schedule is None else standalone.Schedule(schedule.to_dense_mask())
    return standalone.attention(query, key, value, mask)


STAND_INS = {
    "attention": dense_attention,
    "modulated_norm": standalone.modulated_norm,
    "gated_residual": standalone.gated_residual,
    "rotated_heads": standalone.rotated_heads,
}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_losses_and_gradients_are_those_of_torch(path, monkeypatch):
    """In fp32, which the C++ kernels run: the losses agree to 1e-5."""
    torch.manual_seed(0)
    module = wmdsl.compile(path)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    batch = random_batch(module.plan.model, 12, seed=1)
    python = sys.modules[type(module).__module__]
    used = {name: found for name, found in STAND_INS.items() if hasattr(python, name)}
    assert all(getattr(python, name) is getattr(wmdsl_kernels, name) for name in used)
    ours = step(module, batch)
    for name, found in used.items():
        monkeypatch.setattr(python, name, found)
    losses, gradients = step(module, batch)
    torch.testing.assert_close(ours[0], losses, rtol=0, atol=1e-5)
    for found, expected in zip(ours[1], gradients, strict=True):
        assert (found - expected).norm() <= 1e-4 * expected.norm() + 1e-7


def step(module, batch):
    losses = module.loss(batch, torch.Generator().manual_seed(2))
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(losses["loss"], weights, materialize_grads=True)
    return {name: loss.detach() for name, loss in losses.items()}, gradients
