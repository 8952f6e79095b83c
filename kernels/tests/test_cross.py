"""Every mask family x dtype x head dim: no more than 1.5 times the error of torch's attention.

Errors are against float64, relative to the largest value; torch runs under the dense mask in the
same dtype. A few cases run always, the whole cross in the slow suite.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch

from wmdsl_kernels import Schedule
from wmdsl_kernels.attention import cpu, rectangles
from wmdsl_kernels.attention.naive import naive_attention
from wmdsl_kernels.testing.families import FAMILIES

HEADS = (2, 1)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
HEAD_DIMS = (32, 48, 64, 128, 256)
LARGEST_WITH_GRADIENT = 128
FLOOR = {"fp32": 1e-6, "fp16": 5e-4, "bf16": 4e-3}
"""Half a unit in the last place, and a little: what rounding the result alone may cost."""
LSE_FLOOR = 4e-6
"""Statistics are fp32 in every dtype: a few roundings of a value near 5."""

REPRESENTATIVE = {
    (name, list(DTYPES)[index % 3], HEAD_DIMS[index % 4]) for index, name in enumerate(FAMILIES)
}


def cases(always):
    return [
        pytest.param(*case, id="-".join(map(str, case)), marks=[] if always(case) else SLOW)
        for case in product(FAMILIES, DTYPES, HEAD_DIMS)
    ]


SLOW = pytest.mark.slow
EACH_FAMILY_ONCE = cases(REPRESENTATIVE.__contains__)
FIVE_DIMS = cases(lambda case: case in REPRESENTATIVE and case[0].startswith(("lingbot", "pi0")))


def sliced(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same values as slices of wider tensors, between neighbours that are not numbers.

    The heads of a projection lie so. No two have the same strides: one taken for another shows.
    """
    found = []
    for place, tensor in enumerate(tensors):
        batch, length, heads, head_dim = tensor.shape
        wide = tensor.new_full((batch, length + 1, heads + 2 + place, head_dim), torch.nan)
        found.append(wide[:, :length, 1 : 1 + heads].copy_(tensor))
    return found


def turned(tensor: torch.Tensor) -> torch.Tensor:
    """The same values with the tokens of a head side by side, as torch's attention leaves them."""
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)


class Case:
    """Inputs of one case, the exact results, and how far torch's attention is from them."""

    def __init__(
        self, schedule: Schedule, dtype: torch.dtype, head_dim: int, batch: int = 1
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        lengths = (schedule.query_length, schedule.key_length, schedule.key_length)
        heads = (HEADS[0], HEADS[1], HEADS[1])
        self.schedule = schedule
        self.scale = head_dim**-0.5
        inputs = [
            torch.randn(batch, length, count, head_dim, generator=generator).to(dtype)
            for length, count in zip(lengths, heads, strict=True)
        ]
        self.gradient = turned(torch.randn(inputs[0].shape, generator=generator).to(dtype))
        self.inputs = sliced(inputs)
        self.with_gradients = head_dim <= LARGEST_WITH_GRADIENT
        wide = [tensor.double().requires_grad_() for tensor in self.inputs]
        output, lse = naive_attention(*wide, schedule)
        truth = torch.autograd.grad(output, wide, self.gradient.double())
        self.exact, self.exact_lse = [output.detach(), *truth], lse.detach()

    def errors(self, output, lse, gradients) -> tuple[list[float], float]:
        """Of output and gradients, relative to the largest value; of the LSE, absolute."""
        found = [output, *gradients]
        relative = [
            ((ours - true).abs().max() / true.abs().max()).item()
            for ours, true in zip(found, self.exact, strict=False)
        ]
        seen = torch.isfinite(self.exact_lse)
        assert torch.equal(torch.isfinite(lse), seen)
        return relative, (lse.double() - self.exact_lse)[seen].abs().max().item()

    def rival(self) -> tuple[list[float], float]:
        """The errors of torch's attention under the dense mask, empty rows set to zero."""
        leaves = [tensor.clone().requires_grad_() for tensor in self.inputs]
        mask = self.schedule.to_dense_mask()
        query, key, value = (tensor.transpose(1, 2) for tensor in leaves)
        key, value = (tensor.expand(-1, HEADS[0], -1, -1) for tensor in (key, value))
        output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, attn_mask=torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
            .to(query.dtype), scale=self.scale,
        )  # fmt: skip
        sees = mask.any(1)
        output = output.transpose(1, 2).masked_fill(~sees[None, :, None, None], 0.0)
        gradients = (
            torch.autograd.grad(output, leaves, self.gradient) if self.with_gradients else []
        )
        lse = lse.detach().masked_fill(~sees, -torch.inf)
        return self.errors(output.detach(), lse, gradients)

    def check(self, module, buffers, dtype: str) -> None:
        """One executor, forward and where asked backward, against the bound."""
        output, lse = module.forward(*self.inputs, buffers, self.scale)
        saved = (self.gradient, None, *self.inputs, output, lse)
        gradients = module.backward(*saved, buffers, self.scale) if self.with_gradients else ()
        self.compare(output, lse, gradients, dtype)

    def compare(self, output, lse, gradients, dtype: str) -> None:
        """Results of one executor against the bound."""
        ours, our_lse = self.errors(output, lse, gradients)
        theirs, their_lse = self.rival()
        for our, their in zip(ours, theirs, strict=True):
            assert our <= max(1.5 * their, FLOOR[dtype])
        assert our_lse <= max(1.5 * their_lse, LSE_FLOOR)


@pytest.mark.parametrize("module", [cpu, rectangles], ids=["cpu", "rectangles"])
@pytest.mark.parametrize(("family", "dtype", "head_dim"), EACH_FAMILY_ONCE)
def test_on_the_cpu(family, dtype, head_dim, module):
    case = Case(FAMILIES[family], DTYPES[dtype], head_dim)
    case.check(module, case.schedule.buffers(torch.device("cpu"), module.tiling(None)), dtype)


@pytest.mark.parametrize(("family", "dtype", "head_dim"), FIVE_DIMS)
def test_triton_interpreted(family, dtype, head_dim, monkeypatch):
    pytest.importorskip("triton")
    from wmdsl_kernels.attention import triton_executor, triton_kernels
    from wmdsl_kernels.attention.configurations import NARROW_ROWS, configuration
    from wmdsl_kernels.testing import interpreter

    monkeypatch.setattr(triton_executor, "capability", lambda device: 90)
    case = Case(FAMILIES[family], DTYPES[dtype], head_dim, batch=2 if family == "pi0" else 1)
    longest = case.schedule.longest_block(NARROW_ROWS + 1)
    row = configuration(90, head_dim, DTYPES[dtype].itemsize, longest)
    buffers = case.schedule.buffers(torch.device("cpu"), row.tiling)
    with interpreter.interpreted(triton_kernels):
        case.check(triton_executor, buffers, dtype)
