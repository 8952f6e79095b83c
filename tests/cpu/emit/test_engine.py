"""Emitted queries equal the naive program of the same weights: nothing deleted, hoisted or kept."""

import pytest
import torch

import wmdsl
from tests.cpu.conftest import random_batch
from tests.cpu.emit.test_emit import ALL, IDS
from wmdsl.plan.named import questions


@pytest.fixture(scope="module")
def naive():
    """The naive module of a spec, once, with the weights of its emitted one."""
    modules = {}

    def get(path, module):
        if path not in modules:
            modules[path] = wmdsl.compile(path, naive=True).double()
            modules[path].load_state_dict(module.state_dict())
        return modules[path]

    return get


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_equal_to_the_naive_program(path, compiled, naive):
    module = compiled(path)
    batch = random_batch(module, 2)
    asked = {questions(module.plan)[name].name for name in module.answers}
    for name in sorted(asked):
        ours, theirs = (
            answerer.query(name, batch, torch.Generator().manual_seed(3), steps=3)
            for answerer in (module, naive(path, module))
        )
        assert ours.keys() == theirs.keys()
        for stream, value in theirs.items():
            torch.testing.assert_close(ours[stream], value, rtol=1e-8, atol=1e-9)
