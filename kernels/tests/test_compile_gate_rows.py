"""The row-wise kernels compile without a GPU for every class of widths, free of spills."""

from __future__ import annotations

import pytest

triton = pytest.importorskip("triton")

from wmdsl_kernels.adaln import triton_kernels as adaln  # noqa: E402
from wmdsl_kernels.adaln.configurations import SUM_CHANNELS, row_launch  # noqa: E402
from wmdsl_kernels.testing.compile_gate import SHARED_MEMORY_BYTES, compiled  # noqa: E402

SINGLE = {"statistics", "partial"}
INTEGERS = {"tiles", "pointers"}
SCALARS = {"epsilon": "fp32"}

ADALN = (
    adaln.norm_forward_kernel,
    adaln.norm_backward_kernel,
    adaln.gate_forward_kernel,
    adaln.gate_backward_kernel,
)


def signature(kernel, dtype, tensors):
    """Types of the arguments: tensors of `dtype`, fp32 sums, int32 tables, int32 numbers."""
    types = {name: SCALARS.get(name, "i32") for name in kernel.arg_names}
    types |= dict.fromkeys(INTEGERS, "*i32")
    types |= dict.fromkeys(SINGLE, "*fp32")
    return types | dict.fromkeys(tensors, f"*{dtype}")


def check(kernel, dtype, tensors, constants, capability, warps):
    constants = {name: constants[name] for name in kernel.arg_names if name in constants}
    types = signature(kernel, dtype, tensors)
    report = compiled(kernel, types, constants, capability, warps, stages=2)
    context = f"{kernel.__name__}: {report}"
    assert report.spills == 0, context
    assert report.shared_bytes <= SHARED_MEMORY_BYTES[capability], context


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("channels", [192, 3072, 8192])
def test_adaln_compiles(channels, dtype, capability):
    launch = row_launch(channels)
    tensors = {"x", "shift", "scale", "output", "grad_output", "grad_x"}
    tensors |= {"change", "gate", "grad_change"}
    constants = dict(CHANNELS=channels, WIDTH=launch.width, ROWS=launch.rows, CENTRED=True)
    for kernel in ADALN:
        check(kernel, dtype, tensors, constants, capability, launch.warps)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_run_sum_compiles(dtype, capability):
    kernel = adaln.run_sum_kernel
    types = signature(kernel, dtype, {"target"}) | {"tiles": "i32"}
    constants = dict(CHANNELS=3072, WIDTH=SUM_CHANNELS)
    report = compiled(kernel, types, constants, capability, warps=4, stages=2)
    assert report.spills == 0, report
