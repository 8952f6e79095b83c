"""Split-K plans: every visible pair in one share, every share of a query in a slot of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.tests.test_schedule import rows
from wmdsl_kernels import Schedule
from wmdsl_kernels.attention import triton_executor
from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.bench import masks
from wmdsl_kernels.ranges import UNTILED
from wmdsl_kernels.schedule import Tiling
from wmdsl_kernels.splits import LEAST_KEYS, SplitPlan, share_of

CPU = torch.device("cpu")


@given(rows(), st.integers(1, 9), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_every_pair_is_in_one_share(case, tile, keys):
    schedule = Schedule.from_ranges(*case)
    most, tiles, pointers, ranges, counts = schedule.buffers(CPU, Tiling(tile, share=keys)).shares
    if schedule.most_keys <= keys:
        assert most == 1 and len(tiles) == 0
        return
    length = schedule.query_length
    met = torch.zeros(length, schedule.key_length, dtype=torch.int32)
    filled = torch.zeros(most * length, dtype=torch.int32)
    for start, stop, share, slot in tiles.tolist():
        assert 0 < stop - start <= tile
        spans = ranges[pointers[share] : pointers[share + 1]].tolist()
        assert sum(high - low for low, high in spans) <= keys
        for low, high in spans:
            met[start:stop, low:high] += 1
        filled[slot : slot + stop - start] += 1
        assert slot % length == start
    assert torch.equal(met, schedule.to_dense_mask().int())
    # The slots of a query are its first ones, one per share, and each has one writer.
    expected = torch.arange(most)[:, None] < counts[None, :]
    assert torch.equal(filled.view(most, length), expected.int())
    assert most == counts.max() > 1


def test_a_plan_that_cuts_nothing_is_empty():
    assert SplitPlan.of(masks.policy(32, 4, 64, 16).rows, 32, UNTILED) == SplitPlan()


@pytest.mark.parametrize(
    ("keys", "programs", "processors", "shares"),
    [
        (9792, 48, 132, 5),
        (4096, 24, 132, 11),
        (1, 1, 132, 1),
        (2 * LEAST_KEYS - 1, 1, 132, 1),
        (4096, 140, 132, 1),
        (130, 500, 8, 1),
    ],
)
def test_shares_fill_a_gpu_once(keys, programs, processors, shares):
    share = share_of(keys, programs, processors, 64)
    assert -(-keys // share) == shares
    assert shares == 1 or (share % 64 == 0 and programs * shares <= 2 * processors)


ACTIONS = Schedule.from_ranges(33, 4200, [(0, 32, 0, 4128), (32, 33, 10, 20)])
REQUEST = Request(
    "cuda", "bfloat16", 1, 33, 4200, 24, 24, 128, ACTIONS, capability=90, processors=132
)


def test_a_gpu_that_few_tiles_do_not_fill_gets_shares():
    tiling = triton_executor.tiling(REQUEST)
    buffers = ACTIONS.buffers(CPU, tiling)
    assert len(buffers.rows.tiles) == 2
    assert buffers.shares.most == 5 and len(buffers.shares.tiles) == 6
    assert triton_executor.tiling(replace(REQUEST, batch=4)).share == UNTILED
    assert triton_executor.tiling(replace(REQUEST, traced=True)).share == UNTILED
    assert triton_executor.tiling(replace(REQUEST, batch=0)).share == UNTILED
    dense = [Schedule.dense(33, 4200), None]
    tilings = [triton_executor.tiling(replace(REQUEST, schedule=each)) for each in dense]
    assert tilings[0] == tilings[1] and tilings[0].share == 384
