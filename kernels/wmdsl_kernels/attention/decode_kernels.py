"""The Triton kernel of decoding: few queries over many cached keys, split over the keys.

A program attends to one share of the slots and leaves a normalised output with its LSE, to be
merged (`merge_kernel.py`). The query heads of one key head are packed into the rows of a tile, so
that keys and values are read once for all of them.
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
    place = (line.to(tl.int64) * tl.num_programs(0) + split) * rows + row
    at = place[:, None] * HEAD_DIM + channels[None, :]
    tl.store(partial + at, sums / safe[:, None], mask=inside)
    exponent = tl.where(seen, largest + tl.log2(safe), float("-inf"))
    tl.store(partial_lse + place, exponent, mask=row < rows)
