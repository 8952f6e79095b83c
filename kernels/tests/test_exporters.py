"""Exported masks against the dense mask; xformers' own materialisation is the oracle."""

from __future__ import annotations

import pytest
import torch

from wmdsl_kernels import ScheduleError
from wmdsl_kernels.exporters import to_block_mask, to_xformers
from wmdsl_kernels.testing.families import FAMILIES

ONE_RUN = [
    name
    for name, schedule in FAMILIES.items()
    if all(len(seen) == 1 for seen in schedule.rows.ranges)
]


@pytest.mark.parametrize("name", FAMILIES)
def test_block_mask_holds_every_pair(name):
    schedule = FAMILIES[name]
    mask = to_block_mask(schedule, "cpu", block_size=16)
    dense = schedule.to_dense_mask()
    query, key = torch.meshgrid(*map(torch.arange, dense.shape), indexing="ij")
    assert torch.equal(mask.mask_mod(0, 0, query, key), dense)
    blocks = mask.to_dense()[0, 0].bool()
    assert torch.equal(blocks[query // 16, key // 16] & dense, dense)


@pytest.mark.parametrize("name", ONE_RUN)
def test_xformers_materialises_the_same_mask(name):
    pytest.importorskip("xformers")
    schedule = FAMILIES[name]
    bias = to_xformers(schedule).materialize((schedule.query_length, schedule.key_length))
    assert torch.equal(torch.isfinite(bias), schedule.to_dense_mask())


def test_xformers_cannot_hold_two_runs():
    pytest.importorskip("xformers")
    with pytest.raises(ScheduleError, match=r"one key run per query block; \(39, 46\) has 2"):
        to_xformers(FAMILIES["fast_wam"])
