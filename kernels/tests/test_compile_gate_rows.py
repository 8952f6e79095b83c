"""The row-wise kernels compile without a GPU for every class of widths, free of spills."""

from __future__ import annotations

from itertools import product

import pytest

triton = pytest.importorskip("triton")

from wmdsl_kernels.adaln import triton_kernels as adaln  # noqa: E402
from wmdsl_kernels.adaln.configurations import SUM_CHANNELS, row_launch  # noqa: E402
from wmdsl_kernels.attention import decode_kernels, merge_kernel  # noqa: E402
from wmdsl_kernels.attention.configurations import (  # noqa: E402
    DECODE_ROWS,
    decode_launch,
    decode_tile,
    head_width,
)
from wmdsl_kernels.grouped import triton_kernels as grouped  # noqa: E402
from wmdsl_kernels.grouped.configurations import HALF, NARROW  # noqa: E402
from wmdsl_kernels.grouped.configurations import SINGLE as GROUPED_SINGLE  # noqa: E402
from wmdsl_kernels.heads import triton_kernels as heads  # noqa: E402
from wmdsl_kernels.heads.configurations import TOKENS_PER_PROGRAM, head_launch  # noqa: E402
from wmdsl_kernels.testing.compile_gate import SHARED_MEMORY_BYTES, compiled  # noqa: E402

SINGLE = {"statistics", "partial", "query_norm", "key_norm", "cos", "sin"}
INTEGERS = {"tiles", "pointers", "slots", "counts"}
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
@pytest.mark.parametrize(
    ("channels", "centred"), [(192, True), (3072, True), (3072, False), (8192, True)]
)
def test_adaln_compiles(channels, centred, dtype, capability):
    launch = row_launch(channels)
    tensors = {"x", "shift", "scale", "output", "grad_output", "grad_x"}
    tensors |= {"change", "gate", "grad_change"}
    constants = dict(CHANNELS=channels, WIDTH=launch.width, ROWS=launch.rows, CENTRED=centred)
    for kernel in ADALN if centred else ADALN[:2]:
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


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "shape", "norm", "interleaved", "cached"),
    [
        ("bf16", (24, 24, 128), 2, True, False),
        ("fp32", (24, 24, 128), 2, False, False),
        ("bf16", (8, 1, 256), 0, False, False),
        ("bf16", (28, 4, 128), 1, False, False),
        ("bf16", (4, 4, 32), 1, True, False),
        ("bf16", (8, 0, 64), 0, False, False),
        ("bf16", (24, 24, 128), 2, True, True),
        ("fp16", (8, 1, 256), 0, False, True),
        ("fp32", (6, 2, 48), 1, False, True),
    ],
    ids=[
        *("wan", "wan_fp32", "pi0", "bagel", "small", "rotated"),
        *("wan_cached", "pi0_cached", "padded_cached"),
    ],
)
def test_heads_compile(dtype, shape, norm, interleaved, cached, capability):
    """A call that writes to a cache has no gradient, so no kernel for it."""
    queries, keys, head_dim = shape
    launch = head_launch(queries, keys, head_dim)
    constants = dict(
        QUERIES=queries,
        KEYS=keys,
        QUERY_TILE=launch.heads,
        KEY_TILE=launch.key_heads,
        HEAD_DIM=head_dim,
        PAIRS=launch.pairs,
        ROWS=launch.rows,
        TOKENS=TOKENS_PER_PROGRAM,
        QUERY_NORM=norm,
        KEY_NORM=norm,
        ROTATED=True,
        CACHED=cached,
        STEP=2 if interleaved else 1,
        GAP=1 if interleaved else head_dim // 2,
    )
    tensors = {"projected", "query", "key", "value", "grad_query", "grad_key", "grad_value"}
    tensors |= {"grad_projected"}
    for kernel in [heads.forward_kernel, *([] if cached else [heads.backward_kernel])]:
        check(kernel, dtype, tensors, constants, capability, launch.warps)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "launch"),
    [("bf16", HALF), ("bf16", NARROW), ("fp32", GROUPED_SINGLE)],
    ids=["bf16", "narrow", "fp32"],
)
@pytest.mark.parametrize("experts", [1, 3])
def test_grouped_compiles(experts, dtype, launch, capability):
    kernel = grouped.grouped_kernel
    matrices, numbers = (f"*{dtype}",) * experts, (("i32", "i32"),) * experts
    types = dict.fromkeys(("lefts", "rights", "biases", "targets"), matrices)
    types |= dict(sizes=(("i32",) * 3,) * experts, starts=("i32",) * (experts + 1))
    types |= dict(left_strides=numbers, right_strides=numbers)
    constants = dict(HAS_BIAS=1, ROWS=launch.rows, COLUMNS=launch.columns)
    constants |= dict(DEPTH=launch.depth, PRECISION="ieee")
    report = compiled(kernel, types, constants, capability, launch.warps, launch.stages)
    context = f"{kernel.__name__}: {report}"
    assert report.spills == 0, context
    assert report.shared_bytes <= SHARED_MEMORY_BYTES[capability], context
    if dtype == "bf16":
        assert report.warpgroup_products + report.warp_products > 0, context
    if dtype == "bf16" and capability == 90 and launch.rows >= 64:
        assert report.warpgroup_products > 0, context


DECODING = {
    f"{dtype}-{rows}-{width}": (dtype, width, 24, 1, rows)
    for (dtype, rows), width in product(
        [*product(["bf16"], DECODE_ROWS), ("fp32", 32)], [32, 64, 128, 256]
    )
} | {
    "fp32-chunk": ("fp32", 64, 12, 1, 16),
    "fp32-gqa-padded": ("fp32", 48, 2, 2, 5),
    "fp16-chunk": ("fp16", 128, 24, 1, 16),
    "fp16-mqa": ("fp16", 256, 1, 8, 51),
    "bf16-gqa-padded": ("bf16", 96, 4, 7, 16),
}
"""(dtype, head dim, key heads, query heads on each, queries)."""


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("dtype", "head_dim", "key_heads", "group", "queries"), DECODING.values(), ids=DECODING
)
def test_decoding_compiles(dtype, head_dim, key_heads, group, queries, capability):
    element_bytes, width = 4 if dtype == "fp32" else 2, head_width(head_dim)
    rows = decode_tile(queries * group, element_bytes)
    launch = decode_launch(width, element_bytes, rows)
    kernel = decode_kernels.split_kernel
    types = signature(kernel, dtype, {"query", "key", "value"}) | {"scale": "fp32"}
    types |= {"partial_lse": "*fp32"}
    constants = dict(KEY_HEADS=key_heads, GROUP=group, HEAD_DIM=head_dim, WIDTH=width)
    constants |= dict(ROWS=rows, KEYS=launch.step, PRECISION="ieee")
    report = compiled(kernel, types, constants, capability, launch.warps, launch.stages)
    assert report.spills == 0, report
    assert report.shared_bytes <= SHARED_MEMORY_BYTES[capability], report
    if dtype != "fp32":
        assert report.warpgroup_products + report.warp_products > 0, report
    if dtype != "fp32" and capability == 90 and rows >= 64:
        assert report.warpgroup_products > 0, report


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("group", "head_dim", "counted"),
    [(1, 128, False), (7, 48, False), (1, 256, True)],
    ids=["mha", "gqa", "counted"],
)
def test_merging_shares_compiles(group, head_dim, counted, capability):
    kernel = merge_kernel.merge_kernel
    types = signature(kernel, "bf16", {"output"}) | {"partial_lse": "*fp32", "lse": "*fp32"}
    constants = dict(KEY_HEADS=24, GROUP=group, HEAD_DIM=head_dim, WIDTH=head_width(head_dim))
    constants |= dict(SPLITS=16, COUNTED=counted)
    report = compiled(kernel, types, constants, capability, warps=4, stages=2)
    assert report.spills == 0, report
