"""A tiny spec, a tiny data set, and runs made of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

import wmdsl
from wmdsl.data import keys
from wmdsl.data.lerobot import Feature
from wmdsl.data.writer import DatasetWriter
from wmdsl.runtime.settings import TrainSettings
from wmdsl.runtime.train import train

SPEC = Path(__file__).with_name("tiny.wm")
ROWS_HZ, STRIDE, ROWS, SIZE = 40, 4, 24, (16, 24)
SETTINGS = TrainSettings(
    steps=6, batch_size=4, checkpoint_every=2, log_every=1, share_every=3, warm_up=2
)


def write_dataset(root: Path, left_out: tuple[str, ...] = ()) -> Path:
    """Three episodes of noise without the columns left out."""
    camera = keys.image_key("top")
    features = [
        Feature(keys.STATE, "float32", (3,), ("x", "y", "z"), ROWS_HZ),
        Feature(keys.ACTION, "float32", (2,), ("dx", "dy"), ROWS_HZ),
        Feature(camera, "video", (*SIZE, 3), ("height", "width", "channels"), ROWS_HZ / STRIDE),
    ]
    features = [feature for feature in features if feature.key not in left_out]
    with DatasetWriter(root, ROWS_HZ, features, "synthetic") as writer:
        for number in range(3):
            rng = np.random.default_rng(number)
            vectors = {
                keys.STATE: rng.normal(size=(ROWS, 3)).astype(np.float32),
                keys.ACTION: rng.normal(size=(ROWS, 2)).astype(np.float32),
            }
            vectors = {key: rows for key, rows in vectors.items() if key not in left_out}
            images = rng.integers(0, 256, (ROWS // STRIDE, *SIZE, 3), dtype=np.uint8)
            writer.add_episode(vectors, {camera: images}, f"task {number}")
        writer.finish({"made": "for a test"})
    return root


def fresh_module(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return wmdsl.compile(SPEC)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "noise")


@pytest.fixture(scope="session")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted; tests only read it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return train(fresh_module(), dataset, out, SETTINGS, progress=False)
