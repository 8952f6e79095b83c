"""The interpreter leaves no trace: what it rebinds is restored, and kernels compile behind it."""

from __future__ import annotations

import pytest
import torch

triton = pytest.importorskip("triton")

from wmdsl_kernels.adaln import triton_executor, triton_kernels  # noqa: E402
from wmdsl_kernels.testing.compile_gate import compiled  # noqa: E402
from wmdsl_kernels.testing.interpreter import LANGUAGE, interpreted, interpreter  # noqa: E402


def interpret():
    """A kernel that calls others, which is where the interpreter forgets to clean up."""
    x, rows = torch.randn(1, 5, 20), torch.zeros(1, 1, 20)
    triton_executor._tables.cache_clear()
    with interpreted(triton_kernels):
        output, _ = triton_executor.norm_forward(x, rows, rows, [5], True, 1e-5)
    torch.testing.assert_close(output, torch.nn.functional.layer_norm(x, (20,)))


def names():
    return [dict(vars(space)) for space in (*LANGUAGE, triton_kernels)]


def test_every_name_is_restored():
    builder = dict(vars(interpreter.InterpreterBuilder))
    before = names()
    for _ in range(2):
        interpret()
    assert vars(interpreter.InterpreterBuilder) == builder
    for found, expected in zip(names(), before, strict=True):
        assert found.keys() == expected.keys()
        assert all(found[name] is value for name, value in expected.items())


def test_names_are_restored_behind_a_failure():
    before = names()
    with pytest.raises(ZeroDivisionError), interpreted(triton_kernels):
        raise ZeroDivisionError
    assert all(found == expected for found, expected in zip(names(), before, strict=True))


@pytest.mark.slow
def test_kernels_compile_behind_an_interpreted_one(monkeypatch):
    monkeypatch.setattr(triton.knobs.compilation, "always_compile", True)
    interpret()
    kernel = triton_kernels.norm_forward_kernel
    types = dict.fromkeys(kernel.arg_names, "i32") | {"epsilon": "fp32", "tiles": "*i32"}
    types |= dict.fromkeys(("x", "shift", "scale", "output"), "*bf16") | {"statistics": "*fp32"}
    constants = {"CHANNELS": 192, "WIDTH": 256, "ROWS": 8, "CENTRED": True}
    report = compiled(kernel, types, constants, 90, warps=4, stages=2)
    assert report.registers > 0 and report.spills == 0
