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
    assert all(isinstance(row, Runs) for row in (*mixed, *half))


def test_levels_lie_where_the_weights_lie():
    path = [[1, 0.5], [0.25, 0]]
    assert torch.equal(
        levels_on(torch.zeros(1, dtype=torch.float64), path), torch.tensor(path).double()
    )
    assert levels_on(torch.zeros(1, device="meta"), path).shape == (2, 2)
