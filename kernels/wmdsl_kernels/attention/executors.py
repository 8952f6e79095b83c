"""The executors of a schedule by name.

Each is a module with `refusal(request)`, `forward(...)` and `backward(...)` of one signature. They
are imported on first use, so that a machine pays only for the one it runs.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

MODULES = {
    "cpu": "wmdsl_kernels.attention.cpu",
    "rectangles": "wmdsl_kernels.attention.rectangles",
}
"""Executors in the order of preference."""


@cache
def load(name: str) -> ModuleType:
    """The module of the executor called `name`."""
    return importlib.import_module(MODULES[name])
