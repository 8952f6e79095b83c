"""Every shipped configuration compiles without a GPU, spill-free and within shared memory."""

from __future__ import annotations

import pytest

triton = pytest.importorskip("triton")

from wmdsl_kernels.attention import triton_kernels  # noqa: E402
from wmdsl_kernels.attention.configurations import (  # noqa: E402
    HALF,
    SINGLE,
    head_width,
    narrowed,
)
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

each_case = pytest.mark.parametrize(
    ("capability", "width", "dtype", "row", "stairs"),
    CASES,
    ids=[f"sm{c}-{w}-{d}-tile{r.query_tile}{'-stairs' * s}" for c, w, d, r, s in CASES],
)


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


NARROWED = [narrowed(row) for row in HALF.values()]
GROUPED = [row for row in ROWS if row[2] != "fp16" and row[3] not in NARROWED]
"""dK/dV has the same launch for narrow tiles and in both half precisions."""
PADDED = [("bf16", 48, False), ("bf16", 96, True), ("fp32", 48, False)]
"""(dtype, head dim, stairs) of heads that do not fill their width."""
PADDED_SPILLS = 16
"""Masks of channels cost registers that the launch table, made for full widths, does not leave."""


def check(capability, dtype, head_dim, heads, stairs, kernel, rows, keys, launch, split=False):
    """One kernel within shared memory, on tensor cores, and spill-free where its heads are full."""
    width = head_width(head_dim)
    constants = {
        "HEADS": heads[0],
        "KEY_HEADS": heads[1],
        "GROUP": heads[0] // heads[1],
        "HEAD_DIM": head_dim,
        "WIDTH": width,
        "ROWS": rows,
        "KEYS": keys,
        "STAIRS": stairs,
        "SPLIT": split,
        "PRECISION": "ieee",
        "DESCRIPTORS": launch.descriptors,
    }
    constants = {name: constants[name] for name in kernel.arg_names if name in constants}
    types = signature(kernel, dtype, rows, width, launch.descriptors)
    types |= {"output": "*fp32"} if split else {}
    report = compiled(kernel, types, constants, capability, launch.warps, launch.stages)
    context = f"{kernel.__name__}: {report}"
    assert report.shared_bytes <= SHARED_MEMORY_BYTES[capability], context
    if width <= 128:
        assert report.spills <= (0 if head_dim == width else PADDED_SPILLS), context
    if dtype != "fp32":
        assert report.warpgroup_products + report.warp_products > 0, context
    if dtype != "fp32" and capability == 90 and rows >= 64:
        assert report.warpgroup_products > 0, context


@pytest.mark.slow
@each_case
def test_configuration_compiles(capability, width, dtype, row, stairs):
    for one in kernels(row):
        check(capability, dtype, width, (24, 24), stairs, *one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "width", "dtype", "row"),
    GROUPED,
    ids=[f"sm{c}-{w}-{d}" for c, w, d, _ in GROUPED],
)
def test_groups_of_heads_compile(capability, width, dtype, row):
    """dK/dV walks the query heads of a key head: a loop that is none where each has its own."""
    *_, grad_key_value = kernels(row)
    check(capability, dtype, width, (28, 4), True, *grad_key_value)


@pytest.mark.slow
@each_case
def test_shares_of_keys_compile(capability, width, dtype, row, stairs):
    forward, *_ = kernels(row)
    check(capability, dtype, width, (24, 24), stairs, *forward, split=True)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "head_dim", "stairs"), PADDED, ids=[f"{d}-{h}" for d, h, _ in PADDED]
)
def test_padded_heads_compile(dtype, head_dim, stairs, capability):
    width = head_width(head_dim)
    row = SINGLE[width] if dtype == "fp32" else HALF[capability, width]
    for one in kernels(row):
        check(capability, dtype, head_dim, (8, 1), stairs, *one)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_delta_compiles(dtype, capability):
    kernel = triton_kernels.delta_kernel
    types = signature(kernel, dtype, 32, 128, False) | {"grad_lse": "*fp32"}
    constants = dict(HEADS=24, HEAD_DIM=128, WIDTH=128, ROWS=DELTA_ROWS, HAS_GRAD_LSE=True)
    report = compiled(kernel, types, constants, capability, 4, 2)
    assert report.spills == 0, report
