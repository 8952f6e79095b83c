"""The Triton kernels of heads: norm, rotation and placement, and back.

A program owns a few tokens of one stream and sample and one of query, key and value. A tile is
[ROWS, HEADS, PAIRS], twice: the left and the right channel of each pair, which lie GAP apart and
STEP from the next pair. Sums over tokens leave a program as one partial row: no atomics.
`NORM` is 0 without a norm, 1 per head, 2 across all heads.
"""

import triton
import triton.language as tl


@triton.jit
def normed_inverse(
    left, right, epsilon, NORM: tl.constexpr, COUNT: tl.constexpr, HEAD_DIM: tl.constexpr
):
    """1 / rms per head or across heads, [ROWS, HEADS or 1, 1]; COUNT heads."""
    squares = tl.sum(left * left + right * right, 2)[:, :, None]
    if NORM == 2:
        squares = tl.sum(squares, 1)[:, None, :] / COUNT
    return 1.0 / tl.sqrt(squares / HEAD_DIM + epsilon)


@triton.jit
def place_rows(
    projected,
    target,
    norm,
    cos,
    sin,
    slots,
    epsilon,
    start,
    stop,
    target_first,
    token_stride,
    target_token,
    target_head,
    table_token,
    table_head,
    COUNT: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAIRS: tl.constexpr,
    ROWS: tl.constexpr,
    NORM: tl.constexpr,
    ROTATED: tl.constexpr,
    CACHED: tl.constexpr,
    STEP: tl.constexpr,
    GAP: tl.constexpr,
):
    """Tokens start to stop of one kind of heads; all pointers are at its sample and first head."""
    heads = tl.arange(0, HEADS)[None, :, None]
    pairs = tl.arange(0, PAIRS)[None, None, :]
    inside = (heads < COUNT) & (pairs < HEAD_DIM // 2)
    for first in range(start, stop, ROWS):
        rows = first + tl.arange(0, ROWS)
        tokens = rows.to(tl.int64)[:, None, None]
        mask = (tokens < stop) & inside
        at = tokens * token_stride + heads * HEAD_DIM + pairs * STEP
        left = tl.load(projected + at, mask=mask, other=0.0).to(tl.float32)
        right = tl.load(projected + at + GAP, mask=mask, other=0.0).to(tl.float32)
        if NORM:
            inverse = normed_inverse(left, right, epsilon, NORM, COUNT, HEAD_DIM)
            at = (heads * HEAD_DIM if NORM == 2 else 0 * heads) + pairs * STEP
            left *= inverse * tl.load(norm + at, mask=inside, other=0.0)
            right *= inverse * tl.load(norm + at + GAP, mask=inside, other=0.0)
        if ROTATED:
            at = tokens * table_token + heads * table_head + pairs
            turn = tl.load(cos + at, mask=mask, other=0.0)
            slope = tl.load(sin + at, mask=mask, other=0.0)
            turned = left * turn - right * slope
            right = right * turn + left * slope
            left = turned
        places = tokens + target_first
        if CACHED:
            slot = tl.load(slots + rows, mask=rows < stop, other=-1)
            places = slot.to(tl.int64)[:, None, None]
            mask = mask & (places >= 0)
        at = places * target_token + heads * target_head + pairs * STEP
        tl.store(target + at, left.to(target.dtype.element_ty), mask=mask)
        tl.store(target + at + GAP, right.to(target.dtype.element_ty), mask=mask)


@triton.jit
def forward_kernel(
    projected,
    query,
    key,
    value,
    query_norm,
    key_norm,
    cos,
    sin,
    slots,
    epsilon,
    length,
    first,
    projected_batch,
    projected_token,
    query_batch,
    query_token,
    query_head,
    key_batch,
    key_token,
    key_head,
    value_batch,
    value_token,
    value_head,
    table_token,
    table_head,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    QUERY_TILE: tl.constexpr,
    KEY_TILE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAIRS: tl.constexpr,
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
    QUERY_NORM: tl.constexpr,
    KEY_NORM: tl.constexpr,
    ROTATED: tl.constexpr,
    CACHED: tl.constexpr,
    STEP: tl.constexpr,
    GAP: tl.constexpr,
):
    start = tl.program_id(0) * TOKENS
    stop = tl.minimum(start + TOKENS, length)
    batch = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2)
    projected += batch * projected_batch
    slots += batch * length
    if part == 0:
        place_rows(
            projected, query + batch * query_batch, query_norm, cos, sin, slots, epsilon,
            start, stop, first, projected_token, query_token, query_head, table_token, table_head,
            QUERIES, QUERY_TILE, HEAD_DIM, PAIRS, ROWS, QUERY_NORM, ROTATED, False, STEP, GAP,
        )  # fmt: skip
    elif part == 1:
        projected += QUERIES * HEAD_DIM
        place_rows(
            projected, key + batch * key_batch, key_norm, cos, sin, slots, epsilon,
            start, stop, first, projected_token, key_token, key_head, table_token, table_head,
            KEYS, KEY_TILE, HEAD_DIM, PAIRS, ROWS, KEY_NORM, ROTATED, CACHED, STEP, GAP,
        )  # fmt: skip
    else:
        projected += (QUERIES + KEYS) * HEAD_DIM
        place_rows(
            projected, value + batch * value_batch, key_norm, cos, sin, slots, epsilon,
            start, stop, first, projected_token, value_token, value_head, table_token, table_head,
            KEYS, KEY_TILE, HEAD_DIM, PAIRS, ROWS, 0, False, CACHED, STEP, GAP,
        )  # fmt: skip


@triton.jit
def return_rows(
    projected,
    gradient,
    grad_projected,
    partial,
    norm,
    cos,
    sin,
    epsilon,
    start,
    stop,
    first_token,
    token_stride,
    grad_token,
    grad_head,
    target_token,
    table_token,
    table_head,
    COUNT: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAIRS: tl.constexpr,
    ROWS: tl.constexpr,
    NORM: tl.constexpr,
    ROTATED: tl.constexpr,
    STEP: tl.constexpr,
    GAP: tl.constexpr,
):
    """The way back: turned back, then through the norm; `partial` gets the weight's share."""
    heads = tl.arange(0, HEADS)[None, :, None]
    pairs = tl.arange(0, PAIRS)[None, None, :]
    inside = (heads < COUNT) & (pairs < HEAD_DIM // 2)
    left_sums = tl.zeros([ROWS, HEADS, PAIRS], tl.float32)
    right_sums = tl.zeros([ROWS, HEADS, PAIRS], tl.float32)
    for first in range(start, stop, ROWS):
        tokens = (first + tl.arange(0, ROWS)).to(tl.int64)[:, None, None]
        mask = (tokens < stop) & inside
        at = (tokens + first_token) * grad_token + heads * grad_head + pairs * STEP
        left = tl.load(gradient + at, mask=mask, other=0.0).to(tl.float32)
        right = tl.load(gradient + at + GAP, mask=mask, other=0.0).to(tl.float32)
        if ROTATED:
            at = tokens * table_token + heads * table_head + pairs
            turn = tl.load(cos + at, mask=mask, other=0.0)
            slope = tl.load(sin + at, mask=mask, other=0.0)
            turned = left * turn + right * slope
            right = right * turn - left * slope
            left = turned
        if NORM:
            at = tokens * token_stride + heads * HEAD_DIM + pairs * STEP
            left_x = tl.load(projected + at, mask=mask, other=0.0).to(tl.float32)
            right_x = tl.load(projected + at + GAP, mask=mask, other=0.0).to(tl.float32)
            inverse = normed_inverse(left_x, right_x, epsilon, NORM, COUNT, HEAD_DIM)
            left_x *= inverse
            right_x *= inverse
            left_sums += left * left_x
            right_sums += right * right_x
            at = (heads * HEAD_DIM if NORM == 2 else 0 * heads) + pairs * STEP
            left *= tl.load(norm + at, mask=inside, other=0.0)
            right *= tl.load(norm + at + GAP, mask=inside, other=0.0)
            along = tl.sum(left * left_x + right * right_x, 2)[:, :, None]
            if NORM == 2:
                along = tl.sum(along, 1)[:, None, :] / (COUNT * HEAD_DIM)
            else:
                along = along / HEAD_DIM
            left = (left - left_x * along) * inverse
            right = (right - right_x * along) * inverse
        at = tokens * target_token + heads * HEAD_DIM + pairs * STEP
        tl.store(grad_projected + at, left.to(grad_projected.dtype.element_ty), mask=mask)
        tl.store(grad_projected + at + GAP, right.to(grad_projected.dtype.element_ty), mask=mask)
    if NORM:
        heads = tl.arange(0, HEADS)[:, None]
        pairs = tl.arange(0, PAIRS)[None, :]
        inside = (heads < COUNT) & (pairs < HEAD_DIM // 2)
        at = heads * HEAD_DIM + pairs * STEP
        tl.store(partial + at, tl.sum(left_sums, 0), mask=inside)
        tl.store(partial + at + GAP, tl.sum(right_sums, 0), mask=inside)


@triton.jit
def backward_kernel(
    projected,
    grad_query,
    grad_key,
    grad_value,
    grad_projected,
    partial,
    query_norm,
    key_norm,
    cos,
    sin,
    epsilon,
    length,
    first,
    projected_batch,
    projected_token,
    query_batch,
    query_token,
    query_head,
    key_batch,
    key_token,
    key_head,
    value_batch,
    value_token,
    value_head,
    table_token,
    table_head,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    QUERY_TILE: tl.constexpr,
    KEY_TILE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAIRS: tl.constexpr,
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
    QUERY_NORM: tl.constexpr,
    KEY_NORM: tl.constexpr,
    ROTATED: tl.constexpr,
    STEP: tl.constexpr,
    GAP: tl.constexpr,
):
    """`partial` is [B, programs, H + G, K]: shares of the gradients of both norm weights."""
    start = tl.program_id(0) * TOKENS
    stop = tl.minimum(start + TOKENS, length)
    batch = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2)
    projected += batch * projected_batch
    width = (QUERIES + 2 * KEYS) * HEAD_DIM
    grad_projected += batch * length * width
    share = batch * tl.num_programs(0) + tl.program_id(0)
    partial += share * ((QUERIES + KEYS) * HEAD_DIM)
    if part == 0:
        return_rows(
            projected, grad_query + batch * query_batch, grad_projected, partial, query_norm,
            cos, sin, epsilon, start, stop, first, projected_token, query_token, query_head, width,
            table_token, table_head,
            QUERIES, QUERY_TILE, HEAD_DIM, PAIRS, ROWS, QUERY_NORM, ROTATED, STEP, GAP,
        )  # fmt: skip
    elif part == 1:
        offset = QUERIES * HEAD_DIM
        return_rows(
            projected + offset, grad_key + batch * key_batch, grad_projected + offset,
            partial + offset, key_norm,
            cos, sin, epsilon, start, stop, first, projected_token, key_token, key_head, width,
            table_token, table_head,
            KEYS, KEY_TILE, HEAD_DIM, PAIRS, ROWS, KEY_NORM, ROTATED, STEP, GAP,
        )  # fmt: skip
    else:
        offset = (QUERIES + KEYS) * HEAD_DIM
        return_rows(
            projected + offset, grad_value + batch * value_batch, grad_projected + offset,
            partial, key_norm,
            cos, sin, epsilon, start, stop, first, projected_token, value_token, value_head, width,
            table_token, table_head,
            KEYS, KEY_TILE, HEAD_DIM, PAIRS, ROWS, 0, False, STEP, GAP,
        )  # fmt: skip
