"""A GPU without numbers: tensors that know device, dtype and shape, on a machine without one."""

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"
CUDA, META = 1, 14  # c10::DeviceType
HOPPER, PROCESSORS = 90, 132
ANSWERS = {"capability": HOPPER, "processors": PROCESSORS, "missing": None}
# Modules of the kernels that ask which GPU there is, and whether Triton is.
ASKING = ("attention.describe", "attention.triton_executor", "backends")


@contextmanager
def fake_gpu() -> Iterator[torch.device]:
    """Inside, modules and batches moved to the device compute shapes, by the kernels of a GPU.

    The kernels run as far as their operators: what one launches is not looked at.
    """
    with pytest.MonkeyPatch.context() as patch, _guarded():
        for name in ASKING:
            module = importlib.import_module(f"wmdsl_kernels.{name}")
            for question, answer in ANSWERS.items():
                for asked in (question, f"triton_{question}"):
                    if hasattr(module, asked):
                        patch.setattr(module, asked, lambda *_, answer=answer: answer)
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield torch.device("cuda", 0)


@contextmanager
def _guarded() -> Iterator[None]:
    """Python's indexing asks for the device's guard, which a torch without CUDA does not have: that
    of the device without memory does nothing, as is right for tensors without numbers."""
    folder = Path(torch.__file__).parent / "lib"
    library = next(folder.glob("*c10.*"))
    registry = (ctypes.c_void_p * (META + 1)).in_dll(ctypes.CDLL(str(library)), REGISTRY)
    before = registry[CUDA]
    registry[CUDA] = before or registry[META]
    try:
        yield
    finally:
        registry[CUDA] = before
