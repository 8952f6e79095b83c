"""Modules of the published systems at tiny size, compiled once."""

import pytest
import torch

import wmdsl
from tests.atlas.systems import ATLAS
from wmdsl.weights import start


@pytest.fixture(scope="session")
def compiled():
    """Modules by name, with all weights moved off zero: a closed gate would hide everything."""
    made = {}

    def module(path, **parameters):
        if path not in made:
            torch.manual_seed(0)
            made[path] = wmdsl.compile(path, **parameters)
            start(made[path], "random")
            with torch.no_grad():
                for value in made[path].parameters():
                    value.add_(0.02 * torch.randn_like(value))
        return made[path]

    return module


@pytest.fixture
def system(compiled):
    return lambda name: compiled(ATLAS / f"{name}.wm", size="tiny")
