"""Modulated norm and gated residual against float64: every back end, kind and dtype."""

from __future__ import annotations

import pytest
import torch

from wmdsl_kernels import ArgumentError, DispatchError, gated_residual, modulated_norm
from wmdsl_kernels.adaln import configurations, explain_rowwise, triton_executor
from wmdsl_kernels.adaln.naive import naive_gated_residual, naive_modulated_norm
from wmdsl_kernels.adaln.operators import (
    execute_gate,
    execute_norm,
    gated_residual_forward,
    modulated_norm_forward,
)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1.5e-3, torch.bfloat16: 1e-2}
"""Relative to the largest value: half precision rounds inputs, once, and the result."""
SHAPES = {"runs": (2, (5, 1, 20), 96), "odd": (3, (7, 40), 45), "one": (1, (33,), 17)}


def tensors(dtype, batch, lengths, width, rows):
    """Two token tensors, `rows` row tensors cut from one, and a gradient; all inputs differ."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, batch, sum(lengths), width, generator=generator).to(dtype)
    together = torch.randn(batch, len(lengths), rows * width, generator=generator).to(dtype)
    leaves = [*tokens[:2].unbind(0), *together.chunk(rows, dim=-1)]
    return [leaf.detach().requires_grad_() for leaf in leaves], tokens[2]


def errors(inputs, run, exact, gradient):
    """Largest errors of output and gradients relative to the largest value."""
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs]
    truth, found = exact(*wide), run(*inputs)
    true_gradients = torch.autograd.grad(truth, wide, gradient.double())
    gradients = torch.autograd.grad(found, inputs, gradient)
    assert found.dtype == inputs[0].dtype
    pairs = [(found, truth), *zip(gradients, true_gradients, strict=True)]
    return [((left - right).abs().max() / right.abs().max()).item() for left, right in pairs]


def norm_errors(dtype, shape, kind, run):
    batch, lengths, width = shape
    (x, _, shift, scale), gradient = tensors(dtype, batch, lengths, width, 2)
    return errors(
        [x, shift, scale],
        lambda *inputs: run(*inputs, list(lengths)),
        lambda *inputs: naive_modulated_norm(*inputs, lengths, kind),
        gradient,
    )


def gate_errors(dtype, shape, run):
    batch, lengths, width = shape
    inputs, gradient = tensors(dtype, batch, lengths, width, 1)
    return errors(
        inputs,
        lambda *inputs: run(*inputs, list(lengths)),
        lambda *inputs: naive_gated_residual(*inputs, lengths),
        gradient,
    )


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES.values(), (8, (64,), 64)], ids=[*SHAPES, "large"])
def test_small_calls_without_a_gradient(shape, dtype):
    """They are left to torch, with the same checks and the same results."""
    batch, lengths, width = shape
    (x, change, shift, scale), _ = tensors(dtype, batch, lengths, width, 2)
    with torch.no_grad():
        pairs = [
            (modulated_norm(x, shift, scale, lengths), naive_modulated_norm),
            (gated_residual(x, change, shift, lengths), naive_gated_residual),
        ]
        for (found, exact), inputs in zip(
            pairs, [(x, shift, scale, lengths, "layer"), (x, change, shift, lengths)], strict=True
        ):
            wide = [i.double() if torch.is_tensor(i) else i for i in inputs]
            truth = exact(*wide)
            assert found.dtype == dtype
            error = (found - truth).abs().max() / truth.abs().max()
            assert error.item() <= TOLERANCE[dtype]
        with pytest.raises(ArgumentError):
            gated_residual(x, change, shift[..., 1:], lengths)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
class TestOnACpu:
    @pytest.mark.parametrize("kind", ["layer", "rms"])
    def test_modulated_norm(self, backend, dtype, shape, kind):
        def run(*arguments):
            return modulated_norm(*arguments, kind=kind, backend=backend)

        assert max(norm_errors(dtype, shape, kind, run)) <= TOLERANCE[dtype]

    def test_gated_residual(self, backend, dtype, shape):
        def run(*arguments):
            return gated_residual(*arguments, backend=backend)

        assert max(gate_errors(dtype, shape, run)) <= TOLERANCE[dtype]


@pytest.fixture
def interpreted():
    pytest.importorskip("triton")
    from wmdsl_kernels.adaln import triton_kernels
    from wmdsl_kernels.testing import interpreter

    triton_executor._tables.cache_clear()
    with interpreter.interpreted(triton_kernels):
        yield


HALVES = [pytest.param(DTYPES[name], marks=pytest.mark.slow, id=name) for name in ("fp16", "bf16")]


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("dtype", [pytest.param(torch.float32, id="fp32"), *HALVES])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
class TestInterpreted:
    @pytest.mark.parametrize("kind", ["layer", "rms"])
    def test_modulated_norm(self, dtype, shape, kind):
        def run(*arguments):
            return execute_norm(*arguments, kind == "layer", 1e-5, "triton")

        assert max(norm_errors(dtype, shape, kind, run)) <= TOLERANCE[dtype]

    def test_gated_residual(self, dtype, shape):
        def run(*arguments):
            return execute_gate(*arguments, "triton")

        assert max(gate_errors(dtype, shape, run)) <= TOLERANCE[dtype]


def test_float64_passes_gradcheck():
    (x, change, shift, scale), _ = tensors(torch.float64, 2, (3, 2), 5, 2)
    assert torch.autograd.gradcheck(lambda *t: modulated_norm(*t, (3, 2)), (x, shift, scale))
    assert torch.autograd.gradcheck(lambda *t: gated_residual(*t, (3, 2)), (x, change, scale))


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_a_batch_of_none_has_results_of_none(backend):
    (x, change, shift, scale), _ = tensors(torch.float32, 0, (3, 2), 20, 2)
    for output in (
        modulated_norm(x, shift, scale, (3, 2), backend=backend),
        gated_residual(x, change, scale, (3, 2), backend=backend),
    ):
        (gradient,) = torch.autograd.grad(output.sum(), x)
        assert output.shape == gradient.shape == (0, 5, 20)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_strided_tokens_expanded_rows_and_gradients(backend):
    whole = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(0))
    x = whole[:, 4:15, 7:39].detach().requires_grad_()
    row = torch.randn(1, 1, 32, requires_grad=True)
    rows = row.expand(3, 1, 32)
    exact = naive_modulated_norm(x, rows, rows, (11,)).sum()
    truth = torch.autograd.grad(exact, (x, row))
    output = modulated_norm(x, rows, rows, backend=backend).sum()
    for found, true in zip(torch.autograd.grad(output, (x, row)), truth, strict=True):
        torch.testing.assert_close(found, true, rtol=1e-5, atol=1e-5)


def test_the_thread_count_does_not_change_a_bit():
    runs = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        (x, _, shift, scale), gradient = tensors(torch.float32, 3, (7, 40), 45, 2)
        output = modulated_norm(x, shift, scale, (7, 40), backend="cpu")
        runs.append([output, *torch.autograd.grad(output, (x, shift, scale), gradient)])
    for other in runs[1:]:
        assert all(torch.equal(left, right) for left, right in zip(runs[0], other, strict=True))


def test_not_a_number_stays_one():
    x = torch.randn(1, 2, 20).bfloat16()
    x[0, 1, 3] = torch.nan
    rows = torch.zeros(1, 1, 20).bfloat16()
    output = modulated_norm(x, rows, rows, backend="cpu")
    assert output[0, 1].isnan().all() and output[0, 0].isfinite().all()


def test_autocast_takes_the_widest_dtype():
    (x, change, shift, scale), _ = tensors(torch.float32, 2, (3, 2), 8, 2)
    with torch.autocast("cpu", torch.bfloat16):
        output = modulated_norm(x, shift.bfloat16(), scale.bfloat16(), (3, 2))
        moved = gated_residual(x, change.bfloat16(), scale.bfloat16(), (3, 2))
    assert output.dtype == moved.dtype == torch.float32
    with pytest.raises(ArgumentError, match="shift has the dtype torch.bfloat16"):
        modulated_norm(x, shift.bfloat16(), scale, (3, 2))


def test_refusals_are_explained():
    x = torch.zeros(1, 4, 6)
    verdicts = {name: (ok, why) for name, ok, why in explain_rowwise(x.double())}
    assert verdicts["cpu"] == (False, "no torch.float64")
    assert verdicts["triton"] == (False, "runs on cuda, not on cpu")
    assert verdicts["torch"] == (True, "")
    turned = torch.zeros(1, 6, 4).mT
    assert {name: why for name, _, why in explain_rowwise(turned)}["cpu"].startswith("the last")
    with pytest.raises(DispatchError, match="'cpu' refuses this call: no torch.float64"):
        gated_residual(x.double(), x.double(), x.double()[:, :1], backend="cpu")
    with pytest.raises(DispatchError, match="no back end 'magic'; known: cpu, triton, torch"):
        gated_residual(x, x, x[:, :1], backend="magic")
    named = modulated_norm(x + 1, x[:, :1], x[:, :1], kind="rms", backend="naive")
    torch.testing.assert_close(named, torch.ones_like(x), rtol=0, atol=1e-5)


def bad_calls():
    x, rows = torch.zeros(2, 6, 8), torch.zeros(2, 2, 8)
    yield "rank", (x[0], rows, rows, (2, 4)), r"x must have the layout \[B, T, W\]"
    yield "int", (x.int(), rows, rows, (2, 4)), "x has the dtype torch.int32"
    yield "lengths", (x, rows, rows, (2, 3)), r"the runs \[2, 3\] must .* add up to 6"
    yield "empty", (x, rows, rows, (0, 6)), r"the runs \[0, 6\] must be at least 1 long"
    yield "rows", (x, rows, rows[:, :1], (2, 4)), r"scale has the shape \[2, 1, 8\]"
    yield "device", (x, rows.to("meta"), rows, (2, 4)), "shift is on meta"


@pytest.mark.parametrize(
    ("arguments", "message"), [c[1:] for c in bad_calls()], ids=[c[0] for c in bad_calls()]
)
def test_bad_arguments_raise(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        modulated_norm(*arguments)


def test_bad_kinds_and_changes_raise():
    x, rows = torch.zeros(2, 6, 8), torch.zeros(2, 1, 8)
    with pytest.raises(ArgumentError, match="kind is 'batch'; known: layer, rms"):
        modulated_norm(x, rows, rows, kind="batch")
    with pytest.raises(ArgumentError, match="change has the shape"):
        gated_residual(x, x[:, :3], rows)


@pytest.mark.parametrize("executor", ["cpu", "triton"])
def test_torch_checks_pass(executor, request):
    if executor == "triton":
        request.getfixturevalue("interpreted")
    (x, change, shift, scale), _ = tensors(torch.float32, 2, (3, 2), 20, 2)
    torch.library.opcheck(modulated_norm_forward, (x, shift, scale, [3, 2], True, 1e-5, executor))
    torch.library.opcheck(gated_residual_forward, (x, change, scale, [3, 2], executor))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_has_no_graph_break_and_the_same_gradient(backend):
    def block(x, change, shift, scale):
        return gated_residual(modulated_norm(x, shift, scale, (3, 2)), change, scale, (3, 2))

    inputs, gradient = tensors(torch.float32, 2, (3, 2), 20, 2)
    results = []
    for run in (block, torch.compile(block, fullgraph=True, backend=backend)):
        output = run(*inputs)
        results.append([output, *torch.autograd.grad(output, inputs, gradient)])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-5)


class Steered(torch.nn.Module):
    def forward(self, x, change, shift, scale):
        return gated_residual(modulated_norm(x, shift, scale, (3, 2)), change, scale, (3, 2))


def test_export_keeps_the_operators_and_the_result():
    inputs, _ = tensors(torch.float32, 2, (3, 2), 20, 2)
    program = torch.export.export(Steered(), tuple(inputs))
    names = {str(node.target) for node in program.graph.nodes}
    assert "wmdsl_kernels.modulated_norm_forward.default" in names
    assert "wmdsl_kernels.gated_residual_forward.default" in names
    found, eager = program.module()(*inputs), Steered()(*inputs)
    torch.testing.assert_close(found, eager, rtol=0, atol=0)


def test_every_width_has_a_launch():
    for channels in (1, 45, 192, 3072, configurations.WIDEST):
        launch = configurations.row_launch(channels)
        assert launch.width >= channels and launch.rows >= 1
