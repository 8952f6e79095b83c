"""The Triton kernels of modulated norm and gated residual.

A program owns the tokens of one tile, all of one run, so shift, scale and gate are read once. Sums
over the tokens of a run leave a program as one partial row per tile and are added in a fixed order
by `run_sum_kernel`: no atomics. Rows are [B, T, W] and [B, R, W] with contiguous W.
"""

import triton
import triton.language as tl


@triton.jit
def norm_forward_kernel(
    x,
    shift,
    scale,
    output,
    statistics,
    tiles,
    epsilon,
    length,
    x_batch,
    x_token,
    shift_batch,
    shift_run,
    scale_batch,
    scale_run,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    CENTRED: tl.constexpr,
):
    tile = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    start = tl.load(tiles + 3 * tile)
    stop = tl.load(tiles + 3 * tile + 1)
    run = tl.load(tiles + 3 * tile + 2).to(tl.int64)
    channels = tl.arange(0, WIDTH)
    inside = channels < CHANNELS
    low = tl.load(shift + batch * shift_batch + run * shift_run + channels, mask=inside, other=0.0)
    high = tl.load(scale + batch * scale_batch + run * scale_run + channels, mask=inside, other=0.0)
    low = low.to(tl.float32)
    high = 1.0 + high.to(tl.float32)
    for first in range(start, stop, ROWS):
        rows = (first + tl.arange(0, ROWS)).to(tl.int64)
        row_inside = rows < stop
        mask = row_inside[:, None] & inside[None, :]
        at = batch * x_batch + rows[:, None] * x_token + channels[None, :]
        values = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)  # [ROWS, WIDTH]
        mean = tl.zeros([ROWS], tl.float32)
        if CENTRED:
            mean = tl.sum(values, 1) / CHANNELS
            values = tl.where(inside[None, :], values - mean[:, None], 0.0)
        inverse = 1.0 / tl.sqrt(tl.sum(values * values, 1) / CHANNELS + epsilon)
        result = values * inverse[:, None] * high[None, :] + low[None, :]
        place = batch * length + rows
        at = place[:, None] * CHANNELS + channels[None, :]
        tl.store(output + at, result.to(output.dtype.element_ty), mask=mask)
        tl.store(statistics + 2 * place, mean, mask=row_inside)
        tl.store(statistics + 2 * place + 1, inverse, mask=row_inside)


@triton.jit
def norm_backward_kernel(
    grad_output,
    x,
    scale,
    statistics,
    grad_x,
    partial,
    tiles,
    length,
    grad_batch,
    grad_token,
    x_batch,
    x_token,
    scale_batch,
    scale_run,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    CENTRED: tl.constexpr,
):
    """`partial` is [B, tiles, 2, W]: the tile's share of the gradients of shift and scale."""
    tile = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    start = tl.load(tiles + 3 * tile)
    stop = tl.load(tiles + 3 * tile + 1)
    run = tl.load(tiles + 3 * tile + 2).to(tl.int64)
    channels = tl.arange(0, WIDTH)
    inside = channels < CHANNELS
    high = tl.load(scale + batch * scale_batch + run * scale_run + channels, mask=inside, other=0.0)
    high = 1.0 + high.to(tl.float32)
    shifts = tl.zeros([ROWS, WIDTH], tl.float32)
    scales = tl.zeros([ROWS, WIDTH], tl.float32)
    for first in range(start, stop, ROWS):
        rows = (first + tl.arange(0, ROWS)).to(tl.int64)
        row_inside = rows < stop
        mask = row_inside[:, None] & inside[None, :]
        place = batch * length + rows
        mean = tl.load(statistics + 2 * place, mask=row_inside, other=0.0)
        inverse = tl.load(statistics + 2 * place + 1, mask=row_inside, other=0.0)
        at = batch * x_batch + rows[:, None] * x_token + channels[None, :]
        values = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        normed = (values - mean[:, None]) * inverse[:, None]
        at = batch * grad_batch + rows[:, None] * grad_token + channels[None, :]
        slopes = tl.load(grad_output + at, mask=mask, other=0.0).to(tl.float32)
        shifts += slopes
        scales += slopes * normed
        slopes = slopes * high[None, :]
        result = slopes - normed * (tl.sum(slopes * normed, 1) / CHANNELS)[:, None]
        if CENTRED:
            result -= (tl.sum(slopes, 1) / CHANNELS)[:, None]
        at = place[:, None] * CHANNELS + channels[None, :]
        result = (result * inverse[:, None]).to(grad_x.dtype.element_ty)
        tl.store(grad_x + at, result, mask=mask)
    at = (batch * tl.num_programs(0) + tile) * (2 * CHANNELS) + channels
    tl.store(partial + at, tl.sum(shifts, 0), mask=inside)
    tl.store(partial + at + CHANNELS, tl.sum(scales, 0), mask=inside)


@triton.jit
def gate_forward_kernel(
    x,
    change,
    gate,
    output,
    tiles,
    length,
    x_batch,
    x_token,
    change_batch,
    change_token,
    gate_batch,
    gate_run,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    tile = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    start = tl.load(tiles + 3 * tile)
    stop = tl.load(tiles + 3 * tile + 1)
    run = tl.load(tiles + 3 * tile + 2).to(tl.int64)
    channels = tl.arange(0, WIDTH)
    inside = channels < CHANNELS
    factor = tl.load(gate + batch * gate_batch + run * gate_run + channels, mask=inside, other=0.0)
    factor = factor.to(tl.float32)
    for first in range(start, stop, ROWS):
        rows = (first + tl.arange(0, ROWS)).to(tl.int64)
        mask = (rows < stop)[:, None] & inside[None, :]
        at = batch * x_batch + rows[:, None] * x_token + channels[None, :]
        values = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        at = batch * change_batch + rows[:, None] * change_token + channels[None, :]
        changes = tl.load(change + at, mask=mask, other=0.0).to(tl.float32)
        at = (batch * length + rows)[:, None] * CHANNELS + channels[None, :]
        result = values + factor[None, :] * changes
        tl.store(output + at, result.to(output.dtype.element_ty), mask=mask)


@triton.jit
def gate_backward_kernel(
    grad_output,
    change,
    gate,
    grad_change,
    partial,
    tiles,
    length,
    grad_batch,
    grad_token,
    change_batch,
    change_token,
    gate_batch,
    gate_run,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """`partial` is [B, tiles, W]: the tile's share of the gradient of the gate."""
    tile = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    start = tl.load(tiles + 3 * tile)
    stop = tl.load(tiles + 3 * tile + 1)
    run = tl.load(tiles + 3 * tile + 2).to(tl.int64)
    channels = tl.arange(0, WIDTH)
    inside = channels < CHANNELS
    factor = tl.load(gate + batch * gate_batch + run * gate_run + channels, mask=inside, other=0.0)
    factor = factor.to(tl.float32)
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    for first in range(start, stop, ROWS):
        rows = (first + tl.arange(0, ROWS)).to(tl.int64)
        mask = (rows < stop)[:, None] & inside[None, :]
        at = batch * grad_batch + rows[:, None] * grad_token + channels[None, :]
        slopes = tl.load(grad_output + at, mask=mask, other=0.0).to(tl.float32)
        at = batch * change_batch + rows[:, None] * change_token + channels[None, :]
        sums += slopes * tl.load(change + at, mask=mask, other=0.0).to(tl.float32)
        at = (batch * length + rows)[:, None] * CHANNELS + channels[None, :]
        result = (slopes * factor[None, :]).to(grad_change.dtype.element_ty)
        tl.store(grad_change + at, result, mask=mask)
    at = (batch * tl.num_programs(0) + tile) * CHANNELS + channels
    tl.store(partial + at, tl.sum(sums, 0), mask=inside)


@triton.jit
def run_sum_kernel(
    partial,
    target,
    pointers,
    tiles,
    partial_tile,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """target[b, r] = the sum of partial[b, t] over the tiles t of run r, in their order."""
    run = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    channels = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    inside = channels < CHANNELS
    total = tl.zeros([WIDTH], tl.float32)
    for tile in range(tl.load(pointers + run), tl.load(pointers + run + 1)):
        at = (batch * tiles + tile) * partial_tile + channels
        total += tl.load(partial + at, mask=inside, other=0.0)
    at = (batch * tl.num_programs(0) + run) * CHANNELS + channels
    tl.store(target + at, total.to(target.dtype.element_ty), mask=inside)
