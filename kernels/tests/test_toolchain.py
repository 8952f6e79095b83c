"""Machines without a compiler: said once, visible in the dispatch, rectangles take over."""

from __future__ import annotations

import logging

import pytest
import torch

from wmdsl_kernels import attention, explain_dispatch, toolchain
from wmdsl_kernels.attention.naive import naive_attention
from wmdsl_kernels.testing.families import FAMILIES


@pytest.fixture
def fresh_toolchain():
    caches = (toolchain.library, toolchain._missing)
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
