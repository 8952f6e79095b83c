"""Each published system at tiny size acts at the rate of Meta-World, with whatever past it has."""

import numpy as np
import pytest
import torch

import wmdsl
from tests.atlas.systems import ATLAS, SYSTEMS
from wmdsl.data import keys
from wmdsl.weights import start

pytestmark = pytest.mark.slow
CAMERAS = tuple(map(keys.image_key, ("corner", "wrist")))


def observed(step):
    """Noise in place of a simulator, a function of the step."""
    rng = np.random.default_rng(step)
    images = {key: rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for key in CAMERAS}
    return {keys.STATE: rng.normal(size=4).astype(np.float32), keys.TASK: "open it", **images}


def acted(session, steps):
    return np.stack([session.next_action(observed(step)) for step in range(steps)])


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_acts_and_forgets(name):
    torch.manual_seed(0)
    module = wmdsl.compile(ATLAS / f"{name}.wm", size="tiny")
    start(module, "random")
    shown = {keys.STATE, keys.TASK, *CAMERAS}
    streams = module.plan.model.streams.values()
    blank = tuple(stream.name for stream in streams if not shown.issuperset(stream.keys))
    session = wmdsl.session(module, control_hz=80, camera_hz=20, blank=blank)
    steps = 2 * session.execute + 1
    first = acted(session, steps)
    assert first.shape == (steps, 4) and np.isfinite(first).all()
    assert session.used == (2 * session.execute,)
    session.reset()
    assert np.array_equal(acted(session, steps), first)
