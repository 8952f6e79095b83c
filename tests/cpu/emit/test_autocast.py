"""Under bf16 autocast, as a GPU trains: losses in fp32, answers near those of fp32."""

import pytest
import torch

import wmdsl
from tests.cpu.emit.test_emit import ALL, IDS
from wmdsl.runtime.sample import random_batch

FARTHEST = 0.1
"""Mean distance of an answer over its mean size, and how far a loss may be: bf16 keeps 8 bits."""
CHOOSES = {"masked"}
"""Its answers are the middles of bins: where two are as likely, bf16 may choose the other."""


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_under_autocast(path):
    torch.manual_seed(0)
    module = wmdsl.compile(path)
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.02 * torch.randn_like(weight)
    batch = random_batch(module.plan.model, 2, seed=1)
    loss, answers = run(module, batch)
    with torch.autocast("cpu", torch.bfloat16):
        narrow, found = run(module, batch)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, loss, rtol=FARTHEST, atol=FARTHEST)
    for name, answer in answers.items():
        for stream, value in answer.items():
            assert found[name][stream].isfinite().all()
            if path.stem not in CHOOSES and value.is_floating_point():
                distance = (found[name][stream] - value).abs().mean()
                assert distance <= FARTHEST * value.abs().mean() + FARTHEST**2, (name, stream)


def run(module, batch):
    loss = module.loss(batch, torch.Generator().manual_seed(4))["loss"]
    return loss, {
        name: module.query(name, batch, torch.Generator().manual_seed(4), steps=2)
        for name in module.plan.queries
    }
