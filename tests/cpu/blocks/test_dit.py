"""What the steps of a sampler are told: rows for all samples at once, in the cheapest form."""

import pytest
import torch
from torch import Tensor

from wmdsl.blocks.dit import Runs, gated, modulated
from wmdsl.blocks.sampling import levels_on

STEPS, SIZE, WIDTH = 3, 2, 8


def told(lengths, dtype):
    """Shift, scale and gate by step, and the same for each sample as training has them."""
    torch.manual_seed(0)
    rows = torch.randn(STEPS, len(lengths), 3 * WIDTH, dtype=dtype)
    samples = [Runs(row.expand(SIZE, -1, -1), lengths).chunk(3) for row in rows]
    return Runs(rows, lengths).by_step(3), samples


@pytest.mark.parametrize("lengths", [(5,), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_steps_tell_what_codes_of_each_sample_tell(lengths, dtype):
    x, change = torch.randn(2, SIZE, 5, WIDTH, dtype=dtype)
    close = {"rtol": 1e-2, "atol": 5e-2} if dtype == torch.bfloat16 else {}
    for one, (shift, scale, gate) in zip(*told(lengths, dtype), strict=True):
        torch.testing.assert_close(modulated(x, *one[:2]), modulated(x, shift, scale), **close)
        torch.testing.assert_close(gated(x, change, one[2]), gated(x, change, gate), **close)


def test_one_row_is_a_plain_tensor_where_layer_norm_takes_it():
    alone, mixed, half = (
        told(*case)[0][0]
        for case in [((5,), torch.float32), ((2, 3), torch.float32), ((5,), torch.bfloat16)]
    )
    assert all(isinstance(row, Tensor) and row.shape == (WIDTH,) for row in alone)
    assert all(row.rows.shape == (2, WIDTH) for row in mixed)
    assert all(row.rows.shape == (1, 1, WIDTH) for row in half)


def test_more_runs_beside_them_change_no_bit_of_tokens():
    """What a query leaves out may be put back."""
    x, change = torch.randn(2, SIZE, 5, WIDTH)
    both = told((2, 3), torch.float32)[0][0]
    last = [row.rows[1] for row in both]
    assert torch.equal(modulated(x, *both[:2])[:, 2:], modulated(x[:, 2:], *last[:2]))
    found = gated(x, change, both[2])[:, 2:]
    assert torch.equal(found, gated(x[:, 2:], change[:, 2:], last[2]))


def test_levels_lie_where_the_weights_lie():
    path = [[1, 0.5], [0.25, 0]]
    assert torch.equal(
        levels_on(torch.zeros(1, dtype=torch.float64), path), torch.tensor(path).double()
    )
    assert levels_on(torch.zeros(1, device="meta"), path).shape == (2, 2)
