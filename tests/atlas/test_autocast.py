"""Under bf16 autocast, as a GPU trains, each published system takes a step and answers."""

from __future__ import annotations

import pytest
import torch

from tests.atlas.systems import SYSTEMS
from wmdsl.runtime.sample import random_batch

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_system_under_autocast(system, name):
    module = system(name)
    batch = random_batch(module.plan.model, 2, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = module.loss(batch, torch.Generator().manual_seed(0))["loss"]
        loss.backward()
        answers = [module.query(query, batch) for query in module.plan.model.queries]
    assert loss.dtype == torch.float32 and loss.isfinite()
    for answer in answers:
        for tensor in answer.values():
            assert not tensor.is_floating_point() or tensor.isfinite().all()
