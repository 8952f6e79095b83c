"""The Triton kernels of attention under a schedule: forward, delta, dQ and dK/dV.

A program owns one tile, which never straddles a block of the schedule: all its rows walk the same
ranges, no element of a mask is ever read, and only the ends of ranges are predicated. With STAIRS a
row sees of these ranges what lies below its limit: at least one key of the first step. dQ walks
the table by queries and dK/dV its transposed twin: every gradient has one writer, in a fixed order.
Tensors are [B, T, H, K] with contiguous K; names in capitals are compile-time constants.
"""

import triton
import triton.language as tl


@triton.jit
def forward_kernel(
    query,
    key,
    value,
    output,
    lse,
    tiles,
    pointers,
    ranges,
    limits,
    scale,
    length,
    query_batch,
    query_token,
    query_head,
    key_batch,
    key_token,
    key_head,
    value_batch,
    value_token,
    value_head,
    output_batch,
    output_token,
    output_head,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    STAIRS: tl.constexpr,
    SPLIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One tile of queries; with SPLIT under one share of its keys: `tiles` are then those of a
    `SplitPlan`, and output and LSE, to the base 2, go into slots.
    """
    tile = (4 if SPLIT else 3) * tl.program_id(0)
    line = tl.program_id(1)
    batch = (line // HEADS).to(tl.int64)
    head = line % HEADS
    start = tl.load(tiles + tile)
    stop = tl.load(tiles + tile + 1)
    block = tl.load(tiles + tile + 2)
    rows = start + tl.arange(0, ROWS)
    channels = tl.arange(0, WIDTH)
    row_inside = rows < stop
    channel_inside = channels < HEAD_DIM
    inside = row_inside[:, None] & channel_inside[None, :]
    at = rows.to(tl.int64)[:, None] * query_token + channels[None, :]
    q = tl.load(query + batch * query_batch + head * query_head + at, mask=inside, other=0.0)
    key += batch * key_batch + (head // GROUP) * key_head
    value += batch * value_batch + (head // GROUP) * value_head
    factor = scale * 1.4426950408889634
    if STAIRS:
        limit = tl.load(limits + rows, mask=row_inside, other=2147483647)
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    for index in range(tl.load(pointers + block), tl.load(pointers + block + 1)):
        low = tl.load(ranges + 2 * index)
        high = tl.load(ranges + 2 * index + 1)
        for first in range(low, high, KEYS):
            keys = first + tl.arange(0, KEYS)
            key_inside = keys < high
            key_mask = key_inside[:, None] & channel_inside[None, :]
            wide = keys.to(tl.int64)[:, None]
            k = tl.load(key + wide * key_token + channels[None, :], mask=key_mask, other=0.0)
            v = tl.load(value + wide * value_token + channels[None, :], mask=key_mask, other=0.0)
            scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * factor  # [ROWS, KEYS]
            visible = key_inside[None, :]
            if STAIRS:
                visible = visible & (keys[None, :] < limit[:, None])
            scores = tl.where(visible, scores, float("-inf"))
            peak = tl.maximum(largest, tl.max(scores, 1))
            finite = peak
            if SPLIT and STAIRS:  # a row may see nothing of a share, and -inf - -inf is no number
                finite = tl.where(peak == float("-inf"), 0.0, peak)
            weights = tl.exp2(scores - finite[:, None])
            shrink = tl.exp2(largest - finite)
            total = total * shrink + tl.sum(weights, 1)
            sums = sums * shrink[:, None]
            sums = tl.dot(weights.to(v.dtype), v, sums, input_precision=PRECISION)
            largest = peak
    seen = total > 0
    safe = tl.where(seen, total, 1.0)
    if SPLIT:  # its exponent before the store, the other after it: what spills no register
        exponent = largest + tl.log2(safe)
        shift = tl.load(tiles + tile + 3).to(tl.int64) - start
        output += shift * output_token
        lse += shift
    at = rows.to(tl.int64)[:, None] * output_token + channels[None, :]
    output += batch * output_batch + head * output_head
    tl.store(output + at, (sums / safe[:, None]).to(output.dtype.element_ty), mask=inside)
    if not SPLIT:
        exponent = (largest + tl.log2(safe)) * 0.6931471805599453
    exponent = tl.where(seen, exponent, float("-inf"))
    tl.store(lse + line.to(tl.int64) * length + rows, exponent, mask=row_inside)


@triton.jit
def delta_kernel(
    output,
    grad_output,
    grad_lse,
    delta,
    length,
    output_batch,
    output_token,
    output_head,
    grad_batch,
    grad_token,
    grad_head,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    HAS_GRAD_LSE: tl.constexpr,
):
    """delta[b, h, t] = output . grad_output - grad_lse, the constant of each row of dS."""
    line = tl.program_id(1)
    batch = (line // HEADS).to(tl.int64)
    head = line % HEADS
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channels = tl.arange(0, WIDTH)
    row_inside = rows < length
    inside = row_inside[:, None] & (channels < HEAD_DIM)[None, :]
    wide = rows.to(tl.int64)[:, None]
    output += batch * output_batch + head * output_head
    grad_output += batch * grad_batch + head * grad_head
    o = tl.load(output + wide * output_token + channels[None, :], mask=inside, other=0.0)
    g = tl.load(grad_output + wide * grad_token + channels[None, :], mask=inside, other=0.0)
    product = tl.sum(o.to(tl.float32) * g.to(tl.float32), 1)
    place = line.to(tl.int64) * length + rows
    if HAS_GRAD_LSE:
        product -= tl.load(grad_lse + place, mask=row_inside, other=0.0)
    tl.store(delta + place, product, mask=row_inside)


@triton.jit
def grad_query_kernel(
    query,
    key,
    value,
    grad_output,
    grad_query,
    lse,
    delta,
    tiles,
    pointers,
    ranges,
    limits,
    scale,
    length,
    query_batch,
    query_token,
    query_head,
    key_batch,
    key_token,
    key_head,
    value_batch,
    value_token,
    value_head,
    grad_batch,
    grad_token,
    grad_head,
    target_batch,
    target_token,
    target_head,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    STAIRS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    tile = tl.program_id(0)
    line = tl.program_id(1)
    batch = (line // HEADS).to(tl.int64)
    head = line % HEADS
    start = tl.load(tiles + 3 * tile)
    stop = tl.load(tiles + 3 * tile + 1)
    block = tl.load(tiles + 3 * tile + 2)
    rows = start + tl.arange(0, ROWS)
    channels = tl.arange(0, WIDTH)
    row_inside = rows < stop
    channel_inside = channels < HEAD_DIM
    inside = row_inside[:, None] & channel_inside[None, :]
    wide_rows = rows.to(tl.int64)[:, None]
    query += batch * query_batch + head * query_head
    grad_output += batch * grad_batch + head * grad_head
    key += batch * key_batch + (head // GROUP) * key_head
    value += batch * value_batch + (head // GROUP) * value_head
    q = tl.load(query + wide_rows * query_token + channels[None, :], mask=inside, other=0.0)
    g = tl.load(grad_output + wide_rows * grad_token + channels[None, :], mask=inside, other=0.0)
    place = line.to(tl.int64) * length + rows
    factor = scale * 1.4426950408889634
    shift = tl.load(lse + place, mask=row_inside, other=float("inf")) * 1.4426950408889634
    constant = tl.load(delta + place, mask=row_inside, other=0.0)
    if STAIRS:
        limit = tl.load(limits + rows, mask=row_inside, other=0)
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    for index in range(tl.load(pointers + block), tl.load(pointers + block + 1)):
        low = tl.load(ranges + 2 * index)
        high = tl.load(ranges + 2 * index + 1)
        for first in range(low, high, KEYS):
            keys = first + tl.arange(0, KEYS)
            key_inside = keys < high
            key_mask = key_inside[:, None] & channel_inside[None, :]
            wide = keys.to(tl.int64)[:, None]
            k = tl.load(key + wide * key_token + channels[None, :], mask=key_mask, other=0.0)
            v = tl.load(value + wide * value_token + channels[None, :], mask=key_mask, other=0.0)
            scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * factor  # [ROWS, KEYS]
            visible = key_inside[None, :]
            if STAIRS:
                visible = visible & (keys[None, :] < limit[:, None])
            weights = tl.where(visible, tl.exp2(scores - shift[:, None]), 0.0)
            slopes = tl.dot(g, tl.trans(v), input_precision=PRECISION) - constant[:, None]
            sums = tl.dot((weights * slopes).to(k.dtype), k, sums, input_precision=PRECISION)
    grad_query += batch * target_batch + head * target_head
    tl.store(
        grad_query + wide_rows * target_token + channels[None, :],
        (sums * scale).to(grad_query.dtype.element_ty),
        mask=inside,
    )


@triton.jit
def grad_key_value_kernel(
    query,
    key,
    value,
    grad_output,
    grad_key,
    grad_value,
    lse,
    delta,
    tiles,
    pointers,
    ranges,
    limits,
    scale,
    length,
    query_batch,
    query_token,
    query_head,
    key_batch,
    key_token,
    key_head,
    value_batch,
    value_token,
    value_head,
    grad_batch,
    grad_token,
    grad_head,
    target_batch,
    target_token,
    target_head,
    KEY_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    STAIRS: tl.constexpr,
    PRECISION: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
):
    """One tile of keys. With DESCRIPTORS, `query` and `grad_output` are tensor descriptors of
    [B, T, H, K] with blocks [1, ROWS, 1, WIDTH]: their addresses then take no registers.
    """
    tile = tl.program_id(0)
    line = tl.program_id(1)
    batch = (line // KEY_HEADS).to(tl.int64)
    key_head_index = line % KEY_HEADS
    start = tl.load(tiles + 3 * tile)
    stop = tl.load(tiles + 3 * tile + 1)
    block = tl.load(tiles + 3 * tile + 2)
    keys = start + tl.arange(0, KEYS)
    channels = tl.arange(0, WIDTH)
    channel_inside = channels < HEAD_DIM
    key_mask = (keys < stop)[:, None] & channel_inside[None, :]
    wide_keys = keys.to(tl.int64)[:, None]
    key += batch * key_batch + key_head_index * key_head
    value += batch * value_batch + key_head_index * value_head
    k = tl.load(key + wide_keys * key_token + channels[None, :], mask=key_mask, other=0.0)
    v = tl.load(value + wide_keys * value_token + channels[None, :], mask=key_mask, other=0.0)
    factor = scale * 1.4426950408889634
    key_sums = tl.zeros([KEYS, WIDTH], tl.float32)
    value_sums = tl.zeros([KEYS, WIDTH], tl.float32)
    first_range = tl.load(pointers + block)
    last_range = tl.load(pointers + block + 1)
    for member in range(GROUP):
        head = key_head_index * GROUP + member
        statistics = (batch * (KEY_HEADS * GROUP) + head) * length
        for index in range(first_range, last_range):
            low = tl.load(ranges + 2 * index)
            high = tl.load(ranges + 2 * index + 1)
            for first in range(low, high, ROWS):
                rows = first + tl.arange(0, ROWS)
                row_inside = rows < high
                if DESCRIPTORS:
                    corner = [batch.to(tl.int32), first, head, 0]
                    q = query.load(corner).reshape(ROWS, WIDTH)
                    g = grad_output.load(corner).reshape(ROWS, WIDTH)
                else:
                    mask = row_inside[:, None] & channel_inside[None, :]
                    wide = rows.to(tl.int64)[:, None]
                    at = batch * query_batch + head * query_head + wide * query_token
                    q = tl.load(query + at + channels[None, :], mask=mask, other=0.0)
                    at = batch * grad_batch + head * grad_head + wide * grad_token
                    g = tl.load(grad_output + at + channels[None, :], mask=mask, other=0.0)
                shift = tl.load(lse + statistics + rows, mask=row_inside, other=float("inf"))
                constant = tl.load(delta + statistics + rows, mask=row_inside, other=0.0)
                scores = tl.dot(k, tl.trans(q), input_precision=PRECISION)  # [KEYS, ROWS]
                weights = tl.exp2(scores * factor - shift[None, :] * 1.4426950408889634)
                if STAIRS:
                    limit = tl.load(limits + rows, mask=row_inside, other=0)
                    weights = tl.where(keys[:, None] < limit[None, :], weights, 0.0)
                value_sums = tl.dot(weights.to(g.dtype), g, value_sums, input_precision=PRECISION)
                slopes = tl.dot(v, tl.trans(g), input_precision=PRECISION) - constant[None, :]
                slopes = (weights * slopes).to(q.dtype)
                key_sums = tl.dot(slopes, q, key_sums, input_precision=PRECISION)
    at = batch * target_batch + key_head_index * target_head + wide_keys * target_token
    at = at + channels[None, :]
    tl.store(grad_key + at, (key_sums * scale).to(grad_key.dtype.element_ty), mask=key_mask)
    tl.store(grad_value + at, value_sums.to(grad_value.dtype.element_ty), mask=key_mask)
