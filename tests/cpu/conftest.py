"""Modules of specs in float64 with weights that leave nothing at zero, and batches for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import wmdsl

ROOT = Path(__file__).resolve().parents[2]
PARADIGMS = ROOT / "examples" / "paradigms"
SPECS = Path(__file__).parent / "emit" / "specs"


def perturbed(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module in float64; every weight moved, so that gates and heads are open."""
    module = module.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        for name, buffer in module.named_buffers():
            if name.endswith("_mean"):
                buffer += torch.randn(buffer.shape, generator=generator, dtype=buffer.dtype)
            if name.endswith("_scale"):
                buffer += torch.rand(buffer.shape, generator=generator, dtype=buffer.dtype)
    return module


def random_batch(module: torch.nn.Module, size: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """A float64 batch of every stream; texts differ in length."""
    generator = torch.Generator().manual_seed(seed)
    batch = {}
    for stream in module.plan.model.streams.values():
        lead = (size,) if stream.segments[0].name == "whole" else (size, stream.window)
        shape = (*lead, *stream.sample)
        if stream.modality == "language":
            text = torch.randint(1, 257, shape, generator=generator)
            lengths = torch.randint(1, shape[1] + 1, (size, 1), generator=generator)
            batch[stream.name] = text * (torch.arange(shape[1]) < lengths)
        elif stream.modality == "token":
            vocabulary = stream.attributes["sizes"][0]
            batch[stream.name] = torch.randint(0, vocabulary, shape, generator=generator)
        elif stream.modality != "learned":
            batch[stream.name] = torch.rand(shape, generator=generator, dtype=torch.float64)
    return batch


@pytest.fixture(scope="session")
def compiled() -> Callable[[Path], torch.nn.Module]:
    """Compile a spec once per session, in float64 with perturbed weights."""
    modules: dict[Path, torch.nn.Module] = {}

    def get(path: Path) -> torch.nn.Module:
        if path not in modules:
            torch.manual_seed(0)
            modules[path] = perturbed(wmdsl.compile(path))
        return modules[path]

    return get
