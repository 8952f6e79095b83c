"""Triton kernels of decoding: few queries over many cached keys, split over the keys.

`split_kernel` attends to one share of the slots and leaves a normalised output with its LSE;
`merge_kernel` weighs the shares by their LSE. The query heads of one key head are packed into the
rows of a tile, so that keys and values are read once for all of them.
"""

import triton
import triton.language as tl


@triton.jit
def split_kernel(
    query,
    key,
    value,
    slots,
    partial,
    partial_lse,
    scale,
    rows,
    length,
    share,
    query_batch,
    query_token,
    query_head,
    key_slot,
    key_head,
    value_slot,
    value_head,
    KEY_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    split = tl.program_id(0)
    line = tl.program_id(1)
    batch = (line // KEY_HEADS).to(tl.int64)
    head = line % KEY_HEADS
    row = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    channels = tl.arange(0, WIDTH)
    channel_inside = channels < HEAD_DIM
    inside = (row < rows)[:, None] & channel_inside[None, :]
    at = (row // GROUP).to(tl.int64) * query_token + (head * GROUP + row % GROUP) * query_head
    query += batch * query_batch
    q = tl.load(query + at[:, None] + channels[None, :], mask=inside, other=0.0)
    key += head * key_head
    value += head * value_head
    slots += batch * length
    factor = scale * 1.4426950408889634
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    stop = tl.minimum((split + 1) * share, length)
    for first in range(split * share, stop, KEYS):
        keys = first + tl.arange(0, KEYS)
        slot = tl.load(slots + keys, mask=keys < stop, other=-1).to(tl.int64)
        valid = slot >= 0
        mask = valid[:, None] & channel_inside[None, :]
        k = tl.load(key + slot[:, None] * key_slot + channels[None, :], mask=mask, other=0.0)
        v = tl.load(value + slot[:, None] * value_slot + channels[None, :], mask=mask, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * factor  # [ROWS, KEYS]
        scores = tl.where(valid[None, :], scores, float("-inf"))
        peak = tl.maximum(largest, tl.max(scores, 1))
        # A step without a valid slot leaves the peak at -inf, and -inf - -inf is not a number.
        finite = tl.where(peak == float("-inf"), 0.0, peak)
        weights = tl.exp2(scores - finite[:, None])
        shrink = tl.exp2(largest - finite)
        total = total * shrink + tl.sum(weights, 1)
        sums = sums * shrink[:, None]
        sums = tl.dot(weights.to(v.dtype), v, sums, input_precision=PRECISION)
        largest = peak
    seen = total > 0
    safe = tl.where(seen, total, 1.0)
    place = (split.to(tl.int64) * tl.num_programs(1) + line) * rows + row
    at = place[:, None] * HEAD_DIM + channels[None, :]
    tl.store(partial + at, sums / safe[:, None], mask=inside)
    exponent = tl.where(seen, largest + tl.log2(safe), float("-inf"))
    tl.store(partial_lse + place, exponent, mask=row < rows)


@triton.jit
def merge_kernel(
    partial,
    partial_lse,
    output,
    lse,
    rows,
    splits,
    tokens,
    output_batch,
    output_token,
    output_head,
    KEY_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """One row of one key head: the shares' outputs weighed by 2^(their LSE)."""
    row = tl.program_id(0)
    line = tl.program_id(1)
    batch = (line // KEY_HEADS).to(tl.int64)
    head = (line % KEY_HEADS) * GROUP + row % GROUP
    token = row // GROUP
    share = tl.arange(0, SPLITS)
    channels = tl.arange(0, WIDTH)
    inside = (share < splits)[:, None] & (channels < HEAD_DIM)[None, :]
    place = (share.to(tl.int64) * tl.num_programs(1) + line) * rows + row
    exponent = tl.load(partial_lse + place, mask=share < splits, other=float("-inf"))
    peak = tl.max(exponent, 0)
    finite = tl.where(peak == float("-inf"), 0.0, peak)
    weights = tl.exp2(exponent - finite)
    total = tl.sum(weights, 0)
    safe = tl.where(total > 0, total, 1.0)
    at = place[:, None] * HEAD_DIM + channels[None, :]
    parts = tl.load(partial + at, mask=inside, other=0.0)
    merged = tl.sum(parts * weights[:, None], 0) / safe
    output += batch * output_batch + token.to(tl.int64) * output_token + head * output_head
    tl.store(output + channels, merged.to(output.dtype.element_ty), mask=channels < HEAD_DIM)
    natural = (finite + tl.log2(safe)) * 0.6931471805599453
    natural = tl.where(total > 0, natural, float("-inf"))
    tl.store(lse + (batch * (KEY_HEADS * GROUP) + head) * tokens + token, natural)
