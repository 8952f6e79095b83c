"""Every shipped configuration compiles without a GPU, spill-free and within shared memory."""

from __future__ import annotations

import pytest

triton = pytest.importorskip("triton")

from wmdsl_kernels.attention import triton_kernels  # noqa: E402
from wmdsl_kernels.attention.configurations import HALF, SINGLE, narrowed  # noqa: E402
from wmdsl_kernels.attention.triton_executor import DELTA_ROWS  # noqa: E402
from wmdsl_kernels.testing.compile_gate import SHARED_MEMORY_BYTES, compiled  # noqa: E402

TENSORS = {"query", "key", "value", "output", "grad_output", "grad_query", "grad_key", "grad_value"}
STATISTICS = {"lse", "delta"}
TABLES = {"tiles", "pointers", "ranges", "limits"}

ROWS = [
    *((capability, width, "bf16", row) for (capability, width), row in HALF.items()),
    *((capability, width, "fp16", row) for (capability, width), row in HALF.items()),
    *((capability, width, "bf16", narrowed(row)) for (capability, width), row in HALF.items()),
    *((capability, width, "fp32", row) for capability in (80, 90) for width, row in SINGLE.items()),
]

CASES = [(*row, False) for row in ROWS] + [(*row, True) for row in ROWS if row[2] != "fp16"]
"""Joined steps cost the same in both half precisions: one of them is enough."""


def kernels(row):
    """(kernel, rows, keys, launch) of one configuration."""
    query, key = row.query_tile, row.key_tile
    yield triton_kernels.forward_kernel, query, row.forward.step, row.forward
    yield triton_kernels.grad_query_kernel, query, row.grad_query.step, row.grad_query
    launch = row.grad_key_value
    yield triton_kernels.grad_key_value_kernel, launch.step, key, launch


def signature(kernel, dtype, rows, width, descriptors):
    types = {}
    for name in kernel.arg_names:
        if descriptors and name in ("query", "grad_output"):
            types[name] = f"tensordesc<{dtype}[1, {rows}, 1, {width}]>"
        elif name in TENSORS:
            types[name] = f"*{dtype}"
        elif name in STATISTICS | TABLES:
            types[name] = "*fp32" if name in STATISTICS else "*i32"
        else:
            types[name] = "fp32" if name == "scale" else "i32"
    return types


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "width", "dtype", "row", "stairs"),
    CASES,
    ids=[f"sm{c}-{w}-{d}-tile{r.query_tile}{'-stairs' * s}" for c, w, d, r, s in CASES],
)
def test_configuration_compiles(capability, width, dtype, row, stairs):
    for kernel, rows, keys, launch in kernels(row):
        constants = {
            "HEADS": 24,
            "KEY_HEADS": 24,
            "GROUP": 1,
            "HEAD_DIM": width,
            "WIDTH": width,
            "ROWS": rows,
            "KEYS": keys,
            "STAIRS": stairs,
            "PRECISION": "ieee",
            "DESCRIPTORS": launch.descriptors,
        }
        constants = {name: constants[name] for name in kernel.arg_names if name in constants}
        types = signature(kernel, dtype, rows, width, launch.descriptors)
        report = compiled(kernel, types, constants, capability, launch.warps, launch.stages)
        context = f"{kernel.__name__}: {report}"
        assert report.shared_bytes <= SHARED_MEMORY_BYTES[capability], context
        if width <= 128:
            assert report.spills == 0, context
        if dtype != "fp32":
            assert report.warpgroup_products + report.warp_products > 0, context
        if dtype != "fp32" and capability == 90 and rows >= 64:
            assert report.warpgroup_products > 0, context


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_delta_compiles(dtype, capability):
    kernel = triton_kernels.delta_kernel
    types = signature(kernel, dtype, 32, 128, False) | {"grad_lse": "*fp32"}
    constants = dict(HEADS=24, HEAD_DIM=128, WIDTH=128, ROWS=DELTA_ROWS, HAS_GRAD_LSE=True)
    report = compiled(kernel, types, constants, capability, 4, 2)
    assert report.spills == 0, report
