"""The Triton kernel of grouped products: left [M, K] times right [K, N] of every expert.

The tiles of all experts are numbered through; a program computes one. Strides make a transposed
operand of any matrix, so one kernel serves the projection and both of its gradients.
"""

import triton
import triton.language as tl


@triton.jit
def product_tile(
    left,
    right,
    bias,
    target,
    sizes,
    left_strides,
    right_strides,
    tile,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Tile number `tile` of one expert: `sizes` is (M, N, K), the target has contiguous rows."""
    tiles = tl.cdiv(sizes[1], COLUMNS)
    rows = ((tile // tiles) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    columns = ((tile % tiles) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    row_inside = rows < sizes[0]
    column_inside = columns < sizes[1]
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, sizes[2], DEPTH):
        inner = first + tl.arange(0, DEPTH)
        inside = inner < sizes[2]
        at = rows[:, None] * left_strides[0] + inner[None, :].to(tl.int64) * left_strides[1]
        a = tl.load(left + at, mask=row_inside[:, None] & inside[None, :], other=0.0)
        at = inner[:, None].to(tl.int64) * right_strides[0] + columns[None, :] * right_strides[1]
        b = tl.load(right + at, mask=inside[:, None] & column_inside[None, :], other=0.0)
        sums = tl.dot(a, b, sums, input_precision=PRECISION)
    if HAS_BIAS:
        sums += tl.load(bias + columns, mask=column_inside, other=0.0).to(tl.float32)[None, :]
    at = rows[:, None] * sizes[1] + columns[None, :]
    mask = row_inside[:, None] & column_inside[None, :]
    tl.store(target + at, sums.to(target.dtype.element_ty), mask=mask)


@triton.jit
def grouped_kernel(
    lefts,
    rights,
    biases,
    targets,
    sizes,
    left_strides,
    right_strides,
    starts,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """All but the constants are tuples over experts; expert e has the tiles from `starts[e]` on.

    `HAS_BIAS` has one bit per expert.
    """
    tile = tl.program_id(0)
    for expert in tl.static_range(len(lefts)):
        if (tile >= starts[expert]) & (tile < starts[expert + 1]):
            product_tile(
                lefts[expert],
                rights[expert],
                biases[expert],
                targets[expert],
                sizes[expert],
                left_strides[expert],
                right_strides[expert],
                tile - starts[expert],
                (HAS_BIAS >> expert) % 2,
                ROWS,
                COLUMNS,
                DEPTH,
                PRECISION,
            )
