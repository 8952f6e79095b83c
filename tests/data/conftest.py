"""Small datasets made on the spot: synthetic ones by the writer, real ones by the simulator."""

import numpy as np
import pytest

from wmdsl.data import keys
from wmdsl.data.lerobot import Feature
from wmdsl.data.writer import DatasetWriter

FPS = 40
STRIDE = 4
LENGTHS = (9, 16, 11)
TASKS = ("open it", "close it", "open it")
CAMERA = keys.image_key("top")
SIZE = (16, 24)


def episode(number, length=None):
    """Distinct random arrays of one episode; the camera is fresh every fourth row."""
    length = length or LENGTHS[number]
    rng = np.random.default_rng(number)
    vectors = {
        keys.STATE: rng.normal(size=(length, 3)).astype(np.float32),
        keys.ACTION: rng.normal(size=(length, 2)).astype(np.float32),
    }
    images = rng.integers(0, 256, (-(-length // STRIDE), *SIZE, 3), dtype=np.uint8)
    return vectors, {CAMERA: images}


def features(camera=True):
    axes = ("height", "width", "channels")
    vectors = [
        Feature(keys.STATE, "float32", (3,), ("x", "y", "z"), FPS),
        Feature(keys.ACTION, "float32", (2,), ("dx", "dy"), FPS),
    ]
    video = Feature(CAMERA, "video", (*SIZE, 3), axes, FPS / STRIDE)
    return [*vectors, video] if camera else vectors


def write_dataset(root):
    with DatasetWriter(root, FPS, features(), "synthetic") as writer:
        for number, task in enumerate(TASKS):
            writer.add_episode(*episode(number), task)
        writer.finish({"made": "for a test"})
    return root


@pytest.fixture
def dataset(tmp_path):
    """A synthetic dataset of three episodes."""
    return write_dataset(tmp_path / "dataset")


@pytest.fixture(scope="session")
def shared_dataset(tmp_path_factory):
    """The same for tests that only read."""
    return write_dataset(tmp_path_factory.mktemp("shared") / "dataset")
