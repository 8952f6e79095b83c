"""The operators under torch.export, torch.compile and torch's own operator checks."""

from __future__ import annotations

import pytest
import torch

from wmdsl_kernels import Schedule, attention
from wmdsl_kernels.attention.naive import naive_attention
from wmdsl_kernels.attention.operators import attention_forward
from wmdsl_kernels.bench import masks
from wmdsl_kernels.testing.families import FAMILIES

SCHEDULE = FAMILIES["policy"]


@pytest.fixture(autouse=True, params=["traced_first", "run_first"])
def _order(request):
    """Schedule tensors may be built while tracing or before; neither may spoil the other."""
    SCHEDULE._buffers.clear()
    if request.param == "run_first":
        SCHEDULE.buffers(torch.device("cpu"))


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(32, 96, generator=generator) * 32**-0.5
        self.weight = torch.nn.Parameter(weight)

    def forward(self, tokens: torch.Tensor, schedule: Schedule = SCHEDULE) -> torch.Tensor:
        batch, length, _ = tokens.shape
        joint = (tokens @ self.weight).reshape(batch, length, 3, 2, 16)
        return attention(*joint.unbind(2), schedule).flatten(2)


def tokens() -> torch.Tensor:
    return torch.randn(2, SCHEDULE.query_length, 32, generator=torch.Generator().manual_seed(1))


def test_export_keeps_the_operator_and_the_result():
    block = Block()
    program = torch.export.export(block, (tokens(),))
    names = [str(node.target) for node in program.graph.nodes]
    assert "wmdsl_kernels.attention_forward.default" in names
    torch.testing.assert_close(program.module()(tokens()), block(tokens()), rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_has_no_graph_break_and_the_same_gradient(backend):
    results = []
    for compiled in (False, True):
        block = Block()
        run = torch.compile(block, fullgraph=True, backend=backend) if compiled else block
        output = run(tokens())
        output.square().sum().backward()
        results.append((output, block.weight.grad))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-5)


def test_one_compiled_module_serves_schedules_that_alternate():
    """As drawn at every training step: new to the tracer, or equal to one that it has seen."""
    other = masks.token_causal(SCHEDULE.query_length)
    again = Schedule.from_ranges(other.query_length, other.key_length, other.to_ranges())
    block = Block()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    outputs = []
    for schedule in (SCHEDULE, other, SCHEDULE, again):
        results = []
        for run in (compiled, block):
            block.zero_grad()
            output = run(tokens(), schedule)
            output.square().sum().backward()
            results.append((output, block.weight.grad))
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
        outputs.append(output)
    assert torch.equal(outputs[1], outputs[3]) and not torch.allclose(outputs[0], outputs[1])


def test_torch_checks_pass():
    inputs = torch.randn(3, 2, SCHEDULE.query_length, 2, 16, generator=torch.Generator())
    query, key, value = (tensor.clone().requires_grad_() for tensor in inputs)
    buffers = SCHEDULE.buffers(torch.device("cpu"))
    torch.library.opcheck(
        attention_forward,
        (query, key, value, buffers.tensors, buffers.sizes, 0.25, "rectangles"),
    )


@pytest.mark.parametrize("executor", ["cpu"])
def test_lse_has_a_gradient(executor):
    inputs = torch.randn(3, 2, SCHEDULE.query_length, 2, 16, generator=torch.Generator())
    ours = [tensor.clone().requires_grad_() for tensor in inputs]
    truth = [tensor.double().requires_grad_() for tensor in inputs]
    output, lse = attention(*ours, SCHEDULE, return_lse=True, backend=executor)
    (output.square().sum() + lse.sin().sum()).backward()
    output, lse = naive_attention(*truth, SCHEDULE)
    (output.square().sum() + lse.sin().sum()).backward()
    for our, true in zip(ours, truth, strict=True):
        torch.testing.assert_close(our.grad.double(), true.grad, rtol=0, atol=1e-5)
