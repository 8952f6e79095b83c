"""The Triton kernel that ends a split-K attention: the shares of a row, weighed by their LSE.

Shares lie in slots, `partial` [lines, splits, rows, K] and `partial_lse` [lines, splits, rows]: a
line is a key head of a sample, its rows are tokens times the query heads of the key head.
"""

import triton
import triton.language as tl


@triton.jit
def merge_kernel(
    partial,
    partial_lse,
    counts,
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
    COUNTED: tl.constexpr,
):
    """One row of one key head: its shares' outputs weighed by 2^(their LSE).

    COUNTED: `counts` says how many of its `splits` slots each row has; else it has all.
    """
    row = tl.program_id(0)
    line = tl.program_id(1)
    batch = (line // KEY_HEADS).to(tl.int64)
    head = (line % KEY_HEADS) * GROUP + row % GROUP
    token = row // GROUP
    share = tl.arange(0, SPLITS)
    channels = tl.arange(0, WIDTH)
    present = share < (tl.load(counts + row) if COUNTED else splits)
    inside = present[:, None] & (channels < HEAD_DIM)[None, :]
    place = (line.to(tl.int64) * splits + share) * rows + row
    exponent = tl.load(partial_lse + place, mask=present, other=float("-inf"))
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
