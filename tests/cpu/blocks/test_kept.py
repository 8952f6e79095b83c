"""What is copied once to where it is read must serve whoever reads it next."""

import pytest
import torch
from torch._subclasses import FakeTensor, FakeTensorMode

from wmdsl.blocks import standalone
from wmdsl.blocks.mean import MeanLayer, Shares

ROWS = [(0, 2, 0, 2), (2, 5, 0, 5)]


def mean(x: torch.Tensor, shares: Shares) -> torch.Tensor:
    torch.manual_seed(0)
    return MeanLayer(4, 4, dtype=x.dtype)(x, shares)


def test_shares_read_in_inference_mode_serve_training():
    shares, x = Shares(5, ROWS), torch.rand(2, 5, 4, dtype=torch.float64)
    with torch.inference_mode():
        answer = mean(x, shares)
    x.requires_grad_()
    trained = mean(x, shares)
    trained.sum().backward()
    assert torch.equal(answer, trained.detach()) and x.grad.isfinite().all()


@pytest.mark.parametrize("stands", ["shares", "mask"])
def test_no_stand_in_outlives_its_trace(stands):
    shares, schedule = Shares(5, ROWS), standalone.Schedule.from_ranges(5, 5, ROWS)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(torch.rand(2, 5, 4, dtype=torch.float64))
        kept = shares.like(fake) if stands == "shares" else schedule.mask_beside(fake)
        assert isinstance(kept, FakeTensor) or kept is schedule.mask_TS
    x = torch.rand(2, 5, 4, dtype=torch.float64)
    kept = shares.like(x) if stands == "shares" else schedule.mask_beside(x)
    assert type(kept) is torch.Tensor
