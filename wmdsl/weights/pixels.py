"""How the encoder of a checkpoint wants its pixels."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from wmdsl.weights.source import Checkpoint


def pixels_of(checkpoint: Checkpoint) -> tuple[Tensor, Tensor, str]:
    """Mean and deviation of pixels in 0..1 that an encoder was trained with, and a note of them."""
    file = checkpoint.folder / "preprocessor_config.json"
    if not file.is_file():
        half = torch.full((3,), 0.5)
        return half, half, "no preprocessor_config.json: pixels stay in -1..1"
    described = json.loads(file.read_text(encoding="utf-8"))
    mean, deviation = (torch.tensor(described[name]) for name in ("image_mean", "image_std"))
    return mean, deviation, "pixels are normalised as its preprocessor_config.json says"
