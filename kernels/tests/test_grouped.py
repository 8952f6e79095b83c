"""Projections of experts of different width against float64: every back end and dtype."""

from __future__ import annotations

import pytest
import torch

from wmdsl_kernels import ArgumentError, DispatchError, grouped_linear
from wmdsl_kernels.grouped import explain_grouped, triton_executor
from wmdsl_kernels.grouped.configurations import HALF, NARROW, SINGLE, product_launch
from wmdsl_kernels.grouped.naive import naive_grouped_linear
from wmdsl_kernels.grouped.operators import execute, grouped_linear_forward

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1.5e-3, torch.bfloat16: 1e-2}
"""Relative to the largest value."""
EXPERTS = (((2, 37), 48, 70), ((2, 5), 33, 130), ((9,), 16, 20))
"""(leading axes of the tokens, inner width, outer width)."""


def tensors(dtype):
    """Inputs, weights, biases (the second expert has none) and gradients of the outputs."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    inputs = [draw(*axes, inner) for axes, inner, _ in EXPERTS]
    weights = [(draw(outer, inner) / inner**0.5) for _, inner, outer in EXPERTS]
    biases = [None if place == 1 else draw(outer) for place, (*_, outer) in enumerate(EXPERTS)]
    columns = [
        [t if t is None else t.detach().requires_grad_() for t in column]
        for column in (inputs, weights, biases)
    ]
    return *columns, [draw(*axes, outer) for axes, _, outer in EXPERTS]


def leaves(columns):
    return [tensor for column in columns for tensor in column if tensor is not None]


def errors(dtype, run):
    """Largest errors of outputs and gradients relative to the largest value."""
    *columns, slopes = tensors(dtype)
    wide = [[t if t is None else t.detach().double().requires_grad_() for t in c] for c in columns]
    found, truth = run(*columns), naive_grouped_linear(*wide)
    gradients = torch.autograd.grad(found, leaves(columns), slopes)
    exact = torch.autograd.grad(truth, leaves(wide), [slope.double() for slope in slopes])
    assert all(output.dtype == dtype for output in found)
    pairs = [*zip(found, truth, strict=True), *zip(gradients, exact, strict=True)]
    return [((left - right).abs().max() / right.abs().max()).item() for left, right in pairs]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_on_a_cpu(dtype):
    assert max(errors(dtype, grouped_linear)) <= TOLERANCE[dtype]


@pytest.fixture
def interpreted():
    pytest.importorskip("triton")
    from wmdsl_kernels.grouped import triton_kernels
    from wmdsl_kernels.testing import interpreter

    with interpreter.interpreted(triton_kernels):
        yield


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("launch", [None, NARROW], ids=["table", "narrow"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_interpreted(dtype, launch, monkeypatch):
    if launch is not None:
        monkeypatch.setattr(triton_executor, "product_launch", lambda *_: launch)

    def run(*columns):
        return execute(*columns, "triton")

    assert max(errors(dtype, run)) <= TOLERANCE[dtype]


def test_the_launch_follows_rows_and_dtype():
    assert product_launch(4096, 2) == HALF
    assert product_launch(17, 2) == NARROW
    assert product_launch(17, 4) == SINGLE


def test_autocast_sets_the_dtype_as_for_torch():
    inputs, weights, biases, _ = tensors(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = grouped_linear(inputs, weights, biases)
        expected = torch.nn.functional.linear(inputs[0], weights[0], biases[0])
    assert torch.equal(outputs[0], expected) and outputs[0].dtype == torch.bfloat16


def test_refusals_are_explained():
    inputs, weights, _, _ = tensors(torch.float32)
    verdicts = explain_grouped(inputs, weights)
    assert verdicts == [("triton", False, "runs on cuda, not on cpu"), ("torch", True, "")]
    with pytest.raises(DispatchError, match="'triton' refuses this call: runs on cuda"):
        grouped_linear(inputs, weights, backend="triton")
    named = grouped_linear(inputs, weights, backend="naive")
    torch.testing.assert_close(named, grouped_linear(inputs, weights), rtol=0, atol=1e-5)


def test_bad_arguments_raise():
    inputs, weights, biases, _ = tensors(torch.float32)
    with pytest.raises(ArgumentError, match="3 inputs, 2 weights, 3 biases"):
        grouped_linear(inputs, weights[1:])
    with pytest.raises(ArgumentError, match="weight 0 has the shape"):
        grouped_linear(inputs, weights[::-1])
    with pytest.raises(ArgumentError, match=r"bias 0 has the shape \[20\]; expected \[70\]"):
        grouped_linear(inputs, weights, biases[::-1])
    with pytest.raises(ArgumentError, match="weight 2 has the dtype torch.float64"):
        grouped_linear(inputs, [*weights[:2], weights[2].double()])
    with pytest.raises(ArgumentError, match="input 1 is on meta"):
        grouped_linear([inputs[0], inputs[1].to("meta"), inputs[2]], weights)
    with pytest.raises(ArgumentError, match="at least one stream"):
        grouped_linear([], [])


@pytest.mark.usefixtures("interpreted")
def test_torch_checks_pass():
    inputs, weights, biases, _ = tensors(torch.float32)
    filled = [torch.empty(0) if bias is None else bias for bias in biases]
    torch.library.opcheck(grouped_linear_forward, (inputs, weights, filled, "triton"))


def test_compile_has_no_graph_break_and_the_same_result():
    inputs, weights, biases, _ = tensors(torch.float32)
    compiled = torch.compile(grouped_linear, fullgraph=True, backend="aot_eager")
    expected = grouped_linear(inputs, weights, biases)
    torch.testing.assert_close(compiled(inputs, weights, biases), expected)
