"""A module against its reference: loss terms, gradients of every weight, answers of queries."""

import torch


def weights_of(module):
    """Weights and buffers by name; gradients flow into the module's own tensors."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def assert_same_loss(module, reference, batch):
    """All terms, and the gradient of their sum."""
    found = module.loss(batch, torch.Generator().manual_seed(7))
    wanted = reference(weights_of(module), batch, torch.Generator().manual_seed(7))
    assert found.keys() == wanted.keys()
    for term, value in wanted.items():
        torch.testing.assert_close(found[term], value, rtol=1e-9, atol=1e-11)
    ours, theirs = gradients(module, found["loss"]), gradients(module, wanted["loss"])
    assert ours.keys() == theirs.keys()
    for weight, gradient in theirs.items():
        torch.testing.assert_close(ours[weight], gradient, rtol=1e-7, atol=1e-10)


def assert_same_policy(module, reference, batch, steps=3):
    """The answer of the query `policy` with the same noise."""
    found = module.query("policy", batch, torch.Generator().manual_seed(3), steps=steps)["action"]
    with torch.no_grad():
        wanted = reference(weights_of(module), batch, torch.Generator().manual_seed(3), steps)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)
