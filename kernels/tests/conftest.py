"""Shared by the kernel tests: one thread, NaN-poisoned allocations inside the package."""

from __future__ import annotations

import sys

import pytest
import torch

EMPTY = {name: getattr(torch, name) for name in ("empty", "empty_like")}
NEW_EMPTY = torch.Tensor.new_empty


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _poisoned_allocations(monkeypatch):
    """Fill what the package allocates uninitialised with NaN, so that reads of it show."""
    for name, allocate in EMPTY.items():
        monkeypatch.setattr(torch, name, _poisoning(allocate))
    monkeypatch.setattr(torch.Tensor, "new_empty", _poisoning(NEW_EMPTY))


def _poisoning(allocate):
    def poisoned(*arguments, **options):
        tensor = allocate(*arguments, **options)
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("wmdsl_kernels") and tensor.is_floating_point():
            tensor.fill_(torch.nan)
        return tensor

    return poisoned
