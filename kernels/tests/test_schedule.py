"""Schedules: canonical form, transposition, hashing, templates and errors."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensor, FakeTensorMode

from wmdsl_kernels import Schedule, ScheduleError
from wmdsl_kernels.bench import masks
from wmdsl_kernels.ranges import RangeTable
from wmdsl_kernels.schedule import Tiling
from wmdsl_kernels.templates import chunked_teacher_forcing, packed, with_valid_keys
from wmdsl_kernels.testing.families import FAMILIES


def dense_of(table: RangeTable, length: int, other: int) -> torch.Tensor:
    mask = torch.zeros(length, other, dtype=torch.bool)
    for (start, stop), seen in zip(table.blocks, table.ranges, strict=True):
        for low, high in seen:
            mask[start:stop, low:high] = True
    return mask


@st.composite
def rows(draw):
    query_length, key_length = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    cuts = sorted(draw(st.sets(st.integers(0, query_length), max_size=6)))
    entries = []
    for start, stop in zip(cuts, cuts[1:], strict=False):
        for _ in range(draw(st.integers(0, 4))):
            low = draw(st.integers(0, key_length - 1))
            entries.append((start, stop, low, draw(st.integers(low + 1, key_length))))
    return query_length, key_length, entries


@given(rows())
@settings(max_examples=200, deadline=None)
def test_schedule_is_the_union_of_its_rows(case):
    query_length, key_length, entries = case
    schedule = Schedule.from_ranges(*case)
    mask = torch.zeros(query_length, key_length, dtype=torch.bool)
    for start, stop, low, high in entries:
        mask[start:stop, low:high] = True
    assert torch.equal(schedule.to_dense_mask(), mask)
    assert torch.equal(dense_of(schedule.columns, key_length, query_length), mask.T)
    assert schedule.pairs == mask.sum()
    assert schedule.is_dense == bool(mask.all())


@given(rows(), st.randoms())
@settings(max_examples=50, deadline=None)
def test_row_order_and_splits_do_not_change_the_digest(case, random):
    query_length, key_length, entries = case
    split = [(a, b, k, k + 1) for a, b, low, high in entries for k in range(low, high)]
    random.shuffle(split)
    left = Schedule.from_ranges(query_length, key_length, entries)
    right = Schedule.from_ranges(query_length, key_length, split)
    assert left == right
    assert left.digest == right.digest


def test_digest_is_frozen():
    assert masks.fast_wam(98, 196, 32).digest == "02f06e70bb5751ac"


@pytest.mark.parametrize("name", FAMILIES)
def test_buffers_are_int32_and_tiles_cover_every_token_once(name):
    schedule = FAMILIES[name]
    tiling = Tiling(16, 8, 16, 8, twin=True)
    buffers = schedule.buffers(torch.device("cpu"), tiling)
    for table, length, tile in (
        (buffers.rows, schedule.query_length, 16),
        (buffers.columns, schedule.key_length, 8),
    ):
        assert table.tile == tile
        assert all(tensor.dtype == torch.int32 for tensor in table[1:])
        covered = [t for a, b, _ in table.tiles.tolist() for t in range(a, b)]
        assert covered == list(range(length))
        assert max(b - a for a, b, _ in table.tiles.tolist()) <= tile
    assert schedule.buffers(torch.device("cpu"), Tiling(16, 8, 16, 8, twin=True)) is buffers


@pytest.mark.parametrize(
    ("name", "density"),
    [("FW1", 0.672), ("FW3", 0.731), ("FW4a", 0.377), ("LB1a", 0.275), ("LB1b", 0.225)],
)
def test_densities_are_the_published_ones(name, density):
    schedule = {
        "FW1": masks.fast_wam(98, 196, 32),
        "FW3": masks.fast_wam(98, 196, 32, joint=True),
        "FW4a": masks.fast_wam_idm(98, 196, 32),
        "LB1a": chunked_teacher_forcing(16, 120, 16, 2, 64),
        "LB1b": chunked_teacher_forcing(32, 120, 16, 4, 8),
    }[name]
    assert schedule.density == pytest.approx(density, abs=6e-4)


def test_lingbot_mask_follows_its_rule():
    frames, video, action, chunk, window, samples = 6, 3, 2, 2, 3, 2
    schedule = chunked_teacher_forcing(frames, video, action, chunk, window, samples)
    tokens = [
        (sample, 2 * (frame // chunk) + kind, noisy)
        for kind, count in ((0, video), (1, action))
        for noisy in (1, 0)
        for sample in range(samples)
        for frame in range(frames)
        for _ in range(count)
    ]
    sample, order, noisy = torch.tensor(tokens).unbind(1)
    query, key = order[:, None], order[None, :]
    from_noisy, to_noisy = noisy[:, None] == 1, noisy[None, :] == 1
    rule = (
        (~from_noisy & ~to_noisy & (key <= query))
        | (from_noisy & ~to_noisy & (key < query))
        | (from_noisy & to_noisy & (key == query))
    )
    rule &= (sample[:, None] == sample[None, :]) & ((query - key).abs() <= window)
    assert torch.equal(schedule.to_dense_mask(), rule)


@given(
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 10),
    st.integers(0, 20),
    st.integers(1, 3),
)
@settings(max_examples=200, deadline=None)
def test_lingbot_mask_is_what_asking_every_pair_of_frames_gives(
    frames, video, action, chunk, window, samples
):
    groups = [
        (kind, noisy, sample, 2 * (frame // chunk) + kind)
        for kind in (0, 1)
        for noisy in (True, False)
        for sample in range(samples)
        for frame in range(frames)
    ]

    def sees(query, key):
        (_, noisy, sample, order), (_, key_noisy, key_sample, key_order) = query, key
        if sample != key_sample or abs(order - key_order) > window:
            return False
        if noisy:
            return key_order == order if key_noisy else key_order < order
        return not key_noisy and key_order <= order

    edges = [0, *accumulate((video, action)[kind] for kind, *_ in groups)]
    blocks = list(zip(groups, pairwise(edges), strict=True))
    rows = [(*q, *k) for query, q in blocks for key, k in blocks if sees(query, key)]
    built = chunked_teacher_forcing(frames, video, action, chunk, window, samples)
    assert built == Schedule.from_ranges(edges[-1], edges[-1], rows)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=8), st.data())
@settings(max_examples=100, deadline=None)
def test_groups_see_what_every_pair_says(lengths, data):
    count = len(lengths)
    row = st.lists(st.booleans(), min_size=count, max_size=count)
    pairs = data.draw(st.lists(row, min_size=count, max_size=count))
    schedule = Schedule.from_groups(lengths, lambda i, j: pairs[i][j])
    tokens = torch.arange(count).repeat_interleave(torch.tensor(lengths))
    assert torch.equal(schedule.to_dense_mask(), torch.tensor(pairs)[tokens][:, tokens])


def test_validity_hides_keys_from_every_query():
    schedule = masks.block_causal((8, 2, 4))
    valid = with_valid_keys(schedule, [(0, 3), (2, 5), (9, 14)]).to_dense_mask()
    expected = schedule.to_dense_mask()
    expected[:, 5:9] = False
    assert torch.equal(valid, expected)


def test_packed_is_block_diagonal():
    parts = [Schedule.dense(2, 3), masks.block_causal((1, 2))]
    expected = torch.block_diag(*(part.to_dense_mask().int() for part in parts)).bool()
    assert torch.equal(packed(parts).to_dense_mask(), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, []), "query length must be at least 1, not 0"),
        ((4, 4, [(0, 5, 0, 4)]), r"query range \(0, 5\) is not a non-empty part of \[0, 4\)"),
        ((4, 4, [(0, 4, 2, 2)]), r"key range \(2, 2\) is not a non-empty part of \[0, 4\)"),
        ((4, 4, [(-1, 4, 0, 2)]), r"query range \(-1, 4\)"),
        ((8, 4, [(0, 5, 0, 4), (3, 8, 0, 4)]), r"\(0, 5\) and \(3, 8\) overlap"),
    ],
)
def test_bad_schedules_are_refused(arguments, message):
    with pytest.raises(ScheduleError, match=message):
        Schedule.from_ranges(*arguments)


def test_buffers_serve_whoever_reads_them_next():
    """Neither what a tracer builds nor what inference mode forbids to train on is kept."""
    schedule, cpu = masks.policy(3, 2, 5, 4), torch.device("cpu")
    with FakeTensorMode():
        assert isinstance(schedule.buffers(cpu).rows.tiles, FakeTensor)
    with torch.inference_mode():
        kept = schedule.buffers(cpu)
    assert not any(tensor.is_inference() for tensor in (kept.rows.tiles, kept.limits))
    assert type(schedule.buffers(cpu).rows.tiles) is torch.Tensor
