"""Joined steps: with the limits, the joined tables say what the schedule says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmdsl_kernels import Schedule
from wmdsl_kernels.bench import masks
from wmdsl_kernels.ranges import RangeTable
from wmdsl_kernels.stairs import joined_columns, joined_rows, limits_of
from wmdsl_kernels.testing.families import FAMILIES


def expanded(table: RangeTable, length: int, other: int) -> torch.Tensor:
    mask = torch.zeros(length, other, dtype=torch.bool)
    for (start, stop), seen in zip(table.blocks, table.ranges, strict=True):
        for low, high in seen:
            mask[start:stop, low:high] = True
    return mask


def check(schedule: Schedule, most: int) -> None:
    limits = limits_of(schedule.rows)
    queries, keys = schedule.query_length, schedule.key_length
    below = torch.arange(keys)[None, :] < torch.tensor(limits)[:, None]
    rows = joined_rows(schedule.rows, most)
    columns = joined_columns(schedule.columns, limits, most)
    mask = schedule.to_dense_mask()
    assert torch.equal(expanded(rows, queries, keys) & below, mask)
    assert torch.equal(expanded(columns, keys, queries).T & below, mask)
    for joined, steps in ((rows, schedule.rows), (columns, schedule.columns)):
        assert [a for a, _ in joined.blocks] == [0, *(b for _, b in joined.blocks[:-1])]
        assert joined.blocks[-1][1] == steps.blocks[-1][1]
        assert all(b - a <= most or (a, b) in steps.blocks for a, b in joined.blocks)
    for (start, stop), seen in zip(rows.blocks, rows.ranges, strict=True):
        # The executors rely on it: every query of a block sees the first key of its ranges.
        assert not seen or mask[start:stop, seen[0][0]].all()


@st.composite
def stairs(draw):
    """Steps that see what the one before sees and more behind it; now and then a fresh start."""
    keys = draw(st.integers(1, 30))
    entries, start = [], 0
    seen: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(1, 12))):
        stop = start + draw(st.integers(1, 4))
        if draw(st.integers(0, 5)) == 0:
            seen = []
        behind = seen[-1][1] if seen else 0
        if behind < keys:
            low = draw(st.integers(behind, keys - 1))
            seen = [*seen, (low, draw(st.integers(low + 1, keys)))]
        entries += [(start, stop, *span) for span in seen]
        start = stop
    return Schedule.from_ranges(start, keys, entries)


@given(stairs(), st.integers(0, 12))
@settings(max_examples=300, deadline=None)
def test_random_stairs(schedule, most):
    check(schedule, most)


@pytest.mark.parametrize("most", [0, 1, 4, 16, 64])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name, most):
    check(FAMILIES[name], most)


def test_token_causal_becomes_few_blocks():
    schedule = masks.token_causal(100)
    assert len(schedule.rows.blocks) == 100
    assert joined_rows(schedule.rows, 32).blocks == ((0, 32), (32, 64), (64, 96), (96, 100))
    columns = joined_columns(schedule.columns, limits_of(schedule.rows), 32)
    assert columns.blocks == ((0, 32), (32, 64), (64, 96), (96, 100))
    assert schedule.longest_block(33) == 33
    assert schedule.longest_block(0) == 1


def test_a_step_to_many_more_keys_is_not_joined():
    """Sixteen queries that see themselves would compute what sixteen others see besides."""
    schedule = masks.block_causal((16, 16))
    assert len(joined_rows(schedule.rows, 32).blocks) == 1
    wide = Schedule.from_ranges(32, 1000, [(0, 16, 0, 16), (16, 32, 0, 1000)])
    assert joined_rows(wide.rows, 32) == wide.rows


def test_without_joins_there_are_no_limits():
    cpu = torch.device("cpu")
    assert len(masks.token_causal(8).buffers(cpu).limits) == 0
    assert len(masks.policy(32, 4, 64, 16).buffers(cpu).limits) == 0
