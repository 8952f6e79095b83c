"""Machines without a compiler, where rectangles take over, and with fewer vector instructions."""

from __future__ import annotations

import logging
import platform

import pytest
import torch

from wmdsl_kernels import (
    Projection,
    attention,
    explain_dispatch,
    gated_residual,
    joint_heads,
    modulated_norm,
    native,
    toolchain,
)
from wmdsl_kernels.attention import cpu
from wmdsl_kernels.attention.naive import naive_attention
from wmdsl_kernels.testing.families import FAMILIES


@pytest.fixture
def fresh_toolchain():
    caches = (toolchain.library, toolchain._missing, native._function, cpu.has_tiles)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def call():
    schedule = FAMILIES["policy"]
    query, key, value = torch.randn(3, 1, schedule.query_length, 2, 16)
    return schedule, (query, key, value)


@pytest.mark.usefixtures("fresh_toolchain")
def test_without_a_compiler_rectangles_run_and_say_so_once(monkeypatch, caplog):
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    schedule, tensors = call()
    with caplog.at_level(logging.WARNING, "wmdsl_kernels"):
        for _ in range(2):
            output = attention(*tensors, schedule)
    assert len(caplog.records) == 1 and "no C++ compiler" in caplog.text
    verdicts = {name: (ok, why) for name, ok, why in explain_dispatch(*tensors, schedule)}
    assert not verdicts["cpu"][0] and "no C++ compiler" in verdicts["cpu"][1]
    exact, _ = naive_attention(*tensors, schedule)
    torch.testing.assert_close(output.double(), exact, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("fresh_toolchain")
def test_a_failing_compiler_is_quoted(monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'no such flag' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("WMDSL_KERNELS_CACHE", str(tmp_path / "cache"))
    assert "no such flag" in toolchain.missing()
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.usefixtures("fresh_toolchain")
def test_the_build_is_cached(monkeypatch, tmp_path):
    monkeypatch.setenv("WMDSL_KERNELS_CACHE", str(tmp_path))
    toolchain.library()
    built = list(tmp_path.iterdir())
    assert len(built) == 1
    toolchain.library.cache_clear()
    monkeypatch.setattr(toolchain, "_build", lambda *_: pytest.fail("built twice"))
    toolchain.library()


TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}

VECTORS = {
    "f16c": ("-mavx2", "-mfma", "-mf16c"),
    "avx2": ("-mavx2", "-mfma"),
    "sse2": (),
}
"""Flags instead of `-march=native`: vectors of 8 numbers, with and without instructions for fp16,
and the portable ones of 4."""


@pytest.fixture(params=VECTORS)
def _older_processor(request, fresh_toolchain, monkeypatch, tmp_path):
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the flags are x86's")
    flags = [flag for flag in toolchain.FLAGS if flag != "-march=native"]
    assert len(flags) == len(toolchain.FLAGS) - 1
    monkeypatch.setattr(toolchain, "FLAGS", (*flags, *VECTORS[request.param]))
    monkeypatch.setenv("WMDSL_KERNELS_CACHE", str(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("_older_processor")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "fp16", "bf16"])
def test_the_same_source_serves_narrower_vectors(dtype):
    """All three packages are built for them and agree with float64 or with torch."""
    tolerance = {"rtol": 0, "atol": TOLERANCE[dtype]}
    assert toolchain.missing() is None and not cpu.has_tiles()
    torch.manual_seed(0)
    for name in ("policy", "token_causal", "lingbot_window"):
        schedule = FAMILIES[name]
        query, key, value, slope = torch.randn(4, 1, schedule.query_length, 2, 20).to(dtype)
        inputs = [tensor.requires_grad_() for tensor in (query, key, value)]
        output = attention(*inputs, schedule, backend="cpu")
        exact, _ = naive_attention(*inputs, schedule)
        torch.testing.assert_close(output.double(), exact, **tolerance)
        found = torch.autograd.grad(output, inputs, slope)
        truth = torch.autograd.grad(exact, inputs, slope.double())
        torch.testing.assert_close(found, truth, **tolerance)
    made = [Projection(torch.randn(2, 9, 8, 20).to(dtype), torch.rand(20), torch.rand(20))]
    rows = torch.randn(3, 2, 9, 37).to(dtype)
    runs = [
        (*joint_heads(made, 4, 2, backend=name), modulated_norm(*rows, [1] * 9, backend=name))
        for name in ("cpu", "torch")
    ]
    torch.testing.assert_close(*runs, rtol=tolerance["atol"], atol=tolerance["atol"])


def check_every_half(dtype):
    """All 65536 numbers are read as what they are, and products rounded to the nearest."""
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).view(1, 1, -1)
    nothing = torch.zeros_like(numbers)
    for factor in (1.0, 0.7, 2.0**-10, -3.0):
        gate = torch.full_like(numbers, factor)
        found = gated_residual(nothing, numbers, gate, backend="cpu")
        exact = (numbers.float() * gate.float()).to(dtype)
        torch.testing.assert_close(found, exact, rtol=0, atol=0, equal_nan=True)


each_half = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])


@each_half
def test_every_half(dtype):
    check_every_half(dtype)


@each_half
@pytest.mark.slow
@pytest.mark.usefixtures("_older_processor")
def test_every_half_in_narrower_vectors(dtype):
    check_every_half(dtype)
