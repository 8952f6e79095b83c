"""Decoding from a slot pool against float64: on a CPU, and split-K under the interpreter."""

from __future__ import annotations

import pytest
import torch

from kernels.tests.test_cross import sliced, turned
from wmdsl_kernels import ArgumentError, decode_attention, toolchain
from wmdsl_kernels.attention import decode
from wmdsl_kernels.attention.configurations import decode_tile
from wmdsl_kernels.attention.naive import naive_decode


def case(dtype=torch.float32, heads=(4, 2), length=150, queries=5, head_dim=48):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, queries, heads[0], head_dim, generator=generator).to(dtype)
    pools = torch.randn(2, 200, heads[1], head_dim, generator=generator).to(dtype)
    order = torch.stack([torch.randperm(200, generator=generator)[:length] for _ in range(2)])
    slots = order.int()
    slots[0, 3:90] = -1
    return query, pools[0], pools[1], slots


def strided_case(*arguments):
    """A case whose query and pools are not contiguous, the pools between NaN."""
    query, *pools, slots = case(*arguments)
    slots[1, 60:] = -1
    keys, values = sliced([pool[None] for pool in pools])
    return turned(query), keys[0], values[0], slots


def compare(inputs, found):
    """Output and LSE against float64."""
    output, lse = found
    exact, exact_lse = naive_decode(*inputs)
    tolerance = 1e-2 if output.dtype in (torch.float16, torch.bfloat16) else 1e-5
    torch.testing.assert_close(output.double(), exact, rtol=0, atol=tolerance)
    torch.testing.assert_close(lse.double(), exact_lse, rtol=0, atol=1e-5)


@pytest.mark.parametrize("executor", ["cpu", "gathered"])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (3, 1)], ids=["mha", "gqa", "mqa"])
@pytest.mark.parametrize("head_dim", [48, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_on_a_cpu(dtype, head_dim, heads, executor):
    if executor == "cpu" and toolchain.missing():
        pytest.skip(toolchain.missing())
    inputs = strided_case(dtype, heads, 150, 5, head_dim)
    compare(inputs, decode._execute(*inputs, head_dim**-0.5, executor))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_many_queries_over_a_few_slots(dtype):
    inputs = case(dtype, (4, 2), 7, 130, 32)
    inputs[3][0, 3:] = -1
    compare(inputs, decode_attention(*inputs, return_lse=True))


def test_the_cpp_kernels_are_taken_where_they_can_run(monkeypatch):
    query, *pools, slots = case()
    asked = []

    def run(*arguments):
        asked.append(arguments[-1])
        return decode.EXECUTORS[arguments[-1]](*arguments[:-1])

    monkeypatch.setattr(decode, "_execute", run)
    decode_attention(query, *pools, slots)
    double = [tensor.double() for tensor in (query, *pools)]
    compare((*double, slots), decode_attention(*double, slots, return_lse=True))
    assert asked == ["gathered" if toolchain.missing() else "cpu", "gathered"]


@pytest.mark.parametrize(("samples", "queries"), [(0, 5), (2, 0)])
def test_nothing_to_decode(samples, queries):
    query, *pools, slots = case(queries=queries)
    inputs = (query[:samples], *pools, slots[:samples])
    output, lse = decode_attention(*inputs, return_lse=True)
    assert output.shape == (samples, queries, 4, 48) and lse.shape == (samples, 4, queries)


def test_a_sample_without_slots_is_zero():
    query, keys, values, slots = case()
    slots[1] = -1
    output, lse = decode_attention(query, keys, values, slots, return_lse=True)
    assert torch.all(output[1] == 0) and torch.all(lse[1] == -torch.inf)
    assert torch.isfinite(lse[0]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("heads", [(4, 2), (3, 1)], ids=["gqa", "mqa"])
@pytest.mark.parametrize("processors", [1, 8])
def test_split_over_keys_interpreted(processors, heads, dtype, monkeypatch):
    pytest.importorskip("triton")
    from wmdsl_kernels.attention import decode_kernels, merge_kernel
    from wmdsl_kernels.testing.interpreter import interpreted

    monkeypatch.setattr(decode, "processors", lambda device: processors)
    inputs = case(dtype, heads)
    inputs[3][1, :] = -1
    with interpreted(decode_kernels, merge_kernel):
        compare(inputs, decode._split(*inputs, 48**-0.5))


SLOW = pytest.mark.slow
TILES = [
    pytest.param(torch.float32, 16, (2, 2), 64, 16, id="16_fp32_mha"),
    pytest.param(torch.float16, 16, (2, 2), 64, 16, id="16_fp16_mha"),
    pytest.param(torch.bfloat16, 9, (6, 2), 128, 32, id="32_bf16_gqa"),
    pytest.param(torch.float32, 5, (8, 1), 32, 32, id="32_fp32_two"),
    pytest.param(torch.float16, 12, (4, 1), 64, 64, id="64_fp16_mqa"),
    pytest.param(torch.bfloat16, 9, (8, 1), 32, 64, id="64_bf16_two"),
    pytest.param(torch.float32, 51, (8, 1), 256, 32, id="32_fp32_many", marks=SLOW),
    pytest.param(torch.bfloat16, 51, (8, 1), 256, 64, id="64_bf16_many", marks=SLOW),
]
"""(dtype, queries, heads, head dim, the tile of rows that they get)."""


@pytest.mark.parametrize(("dtype", "queries", "heads", "head_dim", "tile"), TILES)
def test_every_row_tile_interpreted(dtype, queries, heads, head_dim, tile, monkeypatch):
    """In "two" and "many" the rows of a key head fill several tiles, the last of them in part."""
    pytest.importorskip("triton")
    from wmdsl_kernels.attention import decode_kernels, merge_kernel
    from wmdsl_kernels.testing.interpreter import interpreted

    monkeypatch.setattr(decode, "processors", lambda device: 8)
    assert decode_tile(queries * heads[0] // heads[1], dtype.itemsize) == tile
    inputs = strided_case(dtype, heads, 100, queries, head_dim)
    with interpreted(decode_kernels, merge_kernel):
        compare(inputs, decode._split(*inputs, head_dim**-0.5))


class Reader(torch.nn.Module):
    def forward(self, query, keys, values, slots):
        return decode_attention(query, keys, values, slots, return_lse=True)


def test_compile_and_export_keep_the_operator():
    inputs = case()
    expected = Reader()(*inputs)
    program = torch.export.export(Reader(), inputs)
    readable = program.graph_module.print_readable(print_output=False)
    assert "torch.ops.wmdsl_kernels.decode_forward.default" in readable
    compiled = torch.compile(Reader(), fullgraph=True, backend="aot_eager")
    for found in (program.module()(*inputs), compiled(*inputs)):
        for ours, eager in zip(found, expected, strict=True):
            assert torch.equal(ours, eager)


def test_torch_checks_pass():
    for executor in ("cpu", "gathered"):
        torch.library.opcheck(decode.decode_forward, (*case(), 0.2, executor))


def test_bad_slots_are_refused():
    query, keys, values, slots = case()
    with pytest.raises(ArgumentError, match="slots has the dtype torch.int64"):
        decode_attention(query, keys, values, slots.long())
    with pytest.raises(ArgumentError, match=r"slots has the shape \[1, 150\]"):
        decode_attention(query, keys, values, slots[:1])
    with pytest.raises(ArgumentError, match="query has the dtype torch.int32"):
        decode_attention(query.int(), keys, values, slots)
    with pytest.raises(ArgumentError, match="key_pool is on meta"):
        decode_attention(query, keys.to("meta"), values, slots)
    with pytest.raises(ArgumentError, match="value_pool has the shape"):
        decode_attention(query, keys, values[:, :1], slots)
    with pytest.raises(ArgumentError, match="the last dimension of query has stride"):
        decode_attention(query.mT.contiguous().mT, keys, values, slots)


def test_a_slot_beyond_the_pool_is_refused_on_a_cpu():
    query, keys, values, slots = case()
    slots[1, 7] = len(keys)
    with pytest.raises(ArgumentError, match="slots names slot 200, the pools have 200"):
        decode_attention(query, keys, values, slots)
