"""The Triton attention kernels under the interpreter, against float64."""

from __future__ import annotations

import pytest
import torch

triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402

from kernels.tests.test_cross import sliced, turned  # noqa: E402
from wmdsl_kernels import Schedule  # noqa: E402
from wmdsl_kernels.attention import merge_kernel, triton_executor, triton_kernels  # noqa: E402
from wmdsl_kernels.attention.configurations import NARROW_ROWS, configuration  # noqa: E402
from wmdsl_kernels.attention.naive import naive_attention  # noqa: E402
from wmdsl_kernels.ranges import UNTILED  # noqa: E402
from wmdsl_kernels.testing import interpreter  # noqa: E402
from wmdsl_kernels.testing.families import FAMILIES  # noqa: E402

TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Relative to the largest value; half precision rounds the weights and the result."""
NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


SLOW = pytest.mark.slow
HALVES = [
    pytest.param(dtype, marks=SLOW, id=name) for dtype, name in NAMES.items() if name != "fp32"
]
DTYPES = [pytest.param(torch.float32, id="fp32"), *HALVES]


@pytest.fixture(
    autouse=True, params=[pytest.param(90, id="sm90"), pytest.param(80, id="sm80", marks=SLOW)]
)
def capability(request, monkeypatch):
    monkeypatch.setattr(triton_executor, "capability", lambda device: request.param)
    with interpreter.interpreted(triton_kernels, merge_kernel):
        yield request.param


def run(
    schedule: Schedule,
    dtype,
    capability,
    heads=(2, 1),
    head_dim=32,
    batch=2,
    grad_lse=False,
    expanded=False,
    share=UNTILED,
):
    """Largest relative errors of output, LSE and the three gradients against float64.

    No tensor is contiguous; gradients that are `expanded` repeat one number, as those of sums do.
    The forward cuts keys into shares of `share`.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (batch, schedule.query_length, heads[0], head_dim),
        (batch, schedule.key_length, heads[1], head_dim),
        (batch, schedule.key_length, heads[1], head_dim),
        (batch, schedule.query_length, heads[0], head_dim),
    ]
    *inputs, gradient = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    query, key, value = sliced(inputs)
    gradient = gradient[:1, :1, :1, :1].expand(shapes[3]) if expanded else turned(gradient)
    truth = [tensor.double().requires_grad_() for tensor in (query, key, value)]
    exact, exact_lse = naive_attention(*truth, schedule)
    total = (exact * gradient.double()).sum()
    lse_gradient = None
    if grad_lse:
        drawn = torch.randn(exact_lse.mT.shape, generator=generator).mT
        lse_gradient = drawn[:1, :1, :1].expand(exact_lse.shape) if expanded else drawn
        seen = torch.isfinite(exact_lse)
        total = total + (exact_lse * lse_gradient.double())[seen].sum()
    gradients = torch.autograd.grad(total, truth)
    longest = schedule.longest_block(NARROW_ROWS + 1)
    tiles = configuration(capability, head_dim, dtype.itemsize, longest)
    buffers = schedule.buffers(torch.device("cpu"), tiles.tiling._replace(share=share))
    assert (buffers.shares.most > 1) == (schedule.most_keys > share)
    scale = head_dim**-0.5
    output, lse = triton_executor.forward(query, key, value, buffers, scale)
    found = triton_executor.backward(
        gradient, lse_gradient, query, key, value, output, lse, buffers, scale
    )
    torch.testing.assert_close(lse.double(), exact_lse, rtol=0, atol=1e-5)
    pairs = [(output, exact), *zip(found, gradients, strict=True)]
    return [((left - right).abs().max() / right.abs().max()).item() for left, right in pairs]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_mask_family(name, dtype, capability):
    assert max(run(FAMILIES[name], dtype, capability, batch=1)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_mask_family_in_shares_of_keys(name, dtype, capability):
    """A query whose joined steps see nothing of a share, and one that sees nothing at all, too."""
    assert max(run(FAMILIES[name], dtype, capability, batch=1, share=24)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "head_dim", [48, 64, *(pytest.param(size, marks=SLOW) for size in (32, 128, 256))]
)
def test_every_head_dim(head_dim, dtype, capability):
    schedule = FAMILIES["fast_wam"]
    assert max(run(schedule, dtype, capability, head_dim=head_dim)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("heads", [(2, 2), (4, 2), (3, 1)], ids=["mha", "gqa", "mqa"])
def test_head_groups(heads, capability):
    assert max(run(FAMILIES["policy"], torch.float32, capability, heads)) <= 2e-6


@pytest.mark.parametrize("expanded", [False, True], ids=["turned", "expanded"])
def test_lse_gradient(expanded, capability):
    schedule = FAMILIES["empty_rows"]
    errors = run(schedule, torch.float32, capability, grad_lse=True, expanded=expanded)
    assert max(errors) <= 2e-6


def multiply(left, right, out, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    product = tl.dot(tl.load(left + at), tl.load(right + at))
    tl.store(out + at, product)


@pytest.mark.parametrize("patched", [True, False])
def test_the_bf16_dot_patch_is_needed_and_right(patched, monkeypatch):
    if not patched:
        monkeypatch.setattr(
            interpreter.interpreter.InterpreterBuilder, "create_dot", interpreter.STOCK_DOT
        )
    left, right = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    out = torch.zeros(16, 16)
    kernel = interpreter.interpreter.InterpretedFunction(multiply)
    kernel[(1,)](left, right, out, SIZE=16)
    exact = left.float() @ right.float()
    assert torch.allclose(out, exact, atol=1e-4) == patched


def narrow(values, out, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(out + at, tl.load(values + at).to(tl.bfloat16))


@pytest.mark.parametrize("patched", [True, False])
def test_the_bf16_rounding_patch_is_needed_and_right(patched, monkeypatch):
    if not patched:
        monkeypatch.setattr(
            interpreter.interpreter.InterpreterBuilder,
            "create_fp_trunc",
            interpreter.STOCK_TRUNCATION,
        )
    values = torch.randn(64, generator=torch.Generator().manual_seed(0))
    values[:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    out = torch.zeros(64, dtype=torch.bfloat16)
    kernel = interpreter.interpreter.InterpretedFunction(narrow)
    kernel[(1,)](values, out, SIZE=64)
    assert torch.equal(out[1:], values.bfloat16()[1:]) == patched
    assert torch.isnan(out[0])
