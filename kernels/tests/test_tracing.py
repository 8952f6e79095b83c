"""Importing the package leaves torch's compiler alone, and the compiler still knows the marks."""

from __future__ import annotations

import subprocess
import sys

import torch

from wmdsl_kernels.tracing import constant_result

PROBE = "import sys, wmdsl_kernels.attention.dispatch; print(*sorted(sys.modules))"


def test_importing_the_package_loads_no_compiler():
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {PROBE}"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(answer.stdout.split())
    assert {"torch", "wmdsl_kernels.toolchain"} <= loaded
    assert not {"torch._dynamo", "torch._inductor", "triton"} & loaded


def test_the_mark_is_that_of_torch():
    def ours():
        return None

    def theirs():
        return None

    assert constant_result(ours) is ours
    assert vars(ours) == vars(torch.compiler.assume_constant_result(theirs)) != {}


def test_a_marked_function_is_called_once_while_tracing():
    calls = []

    @constant_result
    def fact():
        calls.append(len(calls))
        return 3.0

    compiled = torch.compile(lambda x: x * fact(), fullgraph=True, backend="eager")
    for _ in range(2):
        assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 3.0))
    assert calls == [0]
