"""Where a module computes: its batches and its noise have to be there, too."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from wmdsl.runtime import errors

CPU = torch.device("cpu")


def named(name: str) -> torch.device:
    """cpu, cuda, or cuda:1 for the second GPU; RunError for what this machine has not."""
    gpus = ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if name not in ("cpu", *(gpus if torch.cuda.is_available() else ())):
        wanted = "cpu or cuda" if torch.cuda.is_available() else "cpu: torch finds no GPU here"
        raise errors.out_of_range("device", name, wanted)
    return torch.device(name)


def device_of(module: nn.Module) -> torch.device:
    """The device of a module that is on one."""
    return next(module.parameters()).device


def noise_of(module: nn.Module, seed: int) -> Generator:
    """A source of noise where the module draws it; a GPU draws other numbers than a CPU."""
    return Generator(device_of(module)).manual_seed(seed)


def moved(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch or an answer on a device."""
    return {name: values.to(device) for name, values in batch.items()}
