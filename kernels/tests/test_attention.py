"""Attention on CPU against float64: every executor, mask family, dtype and head grouping."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from wmdsl_kernels import (
    ArgumentError,
    DispatchError,
    Schedule,
    ScheduleError,
    attention,
    explain_dispatch,
)
from wmdsl_kernels.attention import cpu
from wmdsl_kernels.attention.executors import EXECUTORS
from wmdsl_kernels.attention.naive import naive_attention
from wmdsl_kernels.bench import masks
from wmdsl_kernels.testing.families import FAMILIES

CPU_EXECUTORS = [name for name in ("cpu", "rectangles") if name in EXECUTORS]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
FLOOR = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}
"""Relative error that is always allowed: a few roundings."""


def tensors(schedule, dtype, heads=(4, 2), head_dim=32, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query_heads, key_heads = heads
    shapes = [
        (batch, schedule.query_length, query_heads, head_dim),
        (batch, schedule.key_length, key_heads, head_dim),
        (batch, schedule.key_length, key_heads, head_dim),
        (batch, schedule.query_length, query_heads, head_dim),
    ]
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return [tensor.requires_grad_() for tensor in made[:3]], made[3]


def dense_sdpa(inputs, schedule):
    """The rival: torch's attention under the dense mask, with empty rows set to zero."""
    query, key, value = (tensor.transpose(1, 2) for tensor in inputs)
    mask = schedule.to_dense_mask()
    output = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, enable_gqa=True
    )
    return output.transpose(1, 2).masked_fill(~mask.any(1)[None, :, None, None], 0.0)


def errors_against_float64(inputs, output, gradient, schedule):
    """Largest errors of the output and of the three gradients, relative to the largest value."""
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs]
    exact, _ = naive_attention(*wide, schedule)
    truth = torch.autograd.grad(exact, wide, gradient.double())
    found = torch.autograd.grad(output, inputs, gradient)
    pairs = [(output, exact), *zip(found, truth, strict=True)]
    return [((left - right).abs().max() / right.abs().max()).item() for left, right in pairs]


@pytest.mark.parametrize("executor", CPU_EXECUTORS)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_no_less_exact_than_sdpa(name, dtype, executor):
    schedule = FAMILIES[name]
    inputs, gradient = tensors(schedule, dtype)
    ours = errors_against_float64(
        inputs, attention(*inputs, schedule, backend=executor), gradient, schedule
    )
    theirs = errors_against_float64(inputs, dense_sdpa(inputs, schedule), gradient, schedule)
    for our, their in zip(ours, theirs, strict=True):
        assert our <= max(1.5 * their, FLOOR[dtype])


@pytest.mark.parametrize("name", FAMILIES)
def test_bf16_without_tiles_is_no_less_exact_either(name, monkeypatch):
    monkeypatch.setattr(cpu, "has_tiles", lambda: False)
    schedule = FAMILIES[name]
    inputs, gradient = tensors(schedule, torch.bfloat16)
    output = attention(*inputs, schedule, backend="cpu")
    ours = errors_against_float64(inputs, output, gradient, schedule)
    theirs = errors_against_float64(inputs, dense_sdpa(inputs, schedule), gradient, schedule)
    for our, their in zip(ours, theirs, strict=True):
        assert our <= max(1.5 * their, FLOOR[torch.bfloat16])


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_more_keys_than_are_visited_at_a_time(dtype):
    schedule = masks.policy(40, 5, 211, 20)
    inputs, gradient = tensors(schedule, dtype, heads=(1, 1), batch=1)
    output = attention(*inputs, schedule, backend="cpu")
    ours = errors_against_float64(inputs, output, gradient, schedule)
    theirs = errors_against_float64(inputs, dense_sdpa(inputs, schedule), gradient, schedule)
    for our, their in zip(ours, theirs, strict=True):
        assert our <= max(1.5 * their, FLOOR[dtype])


def test_tiles_leave_the_thread_as_they_found_it():
    left, right = torch.randn(2, 96, 96, generator=torch.Generator().manual_seed(0)).bfloat16()
    schedule = FAMILIES["policy"]
    inputs, _ = tensors(schedule, torch.bfloat16)
    before = left @ right
    attention(*inputs, schedule, backend="cpu")
    assert torch.equal(left @ right, before)
    smallest_normal = torch.tensor(1.1754944e-38)
    assert smallest_normal / 2 > 0


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("factor", [-0.4, 60.0])
def test_unusual_scales(factor, dtype):
    schedule = FAMILIES["policy"]
    inputs, gradient = tensors(schedule, dtype)
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs]
    exact, _ = naive_attention(*wide, schedule, factor)
    output = attention(*inputs, schedule, scale=factor, backend="cpu")
    assert (output - exact).abs().max() <= 4 * FLOOR[dtype] * exact.abs().max() * max(1, factor)
    found = torch.autograd.grad(output, inputs, gradient)
    assert all(torch.isfinite(part).all() for part in found)


@pytest.mark.parametrize("executor", CPU_EXECUTORS)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("head_dim", [8, 32, 48, 64, 128, 256])
@pytest.mark.parametrize("heads", [(2, 2), (6, 2), (3, 1)], ids=["mha", "gqa", "mqa"])
def test_head_dims_and_groups(head_dim, dtype, heads, executor):
    schedule = FAMILIES["policy"]
    inputs, gradient = tensors(schedule, dtype, heads, head_dim, batch=1)
    ours = errors_against_float64(
        inputs, attention(*inputs, schedule, backend=executor), gradient, schedule
    )
    theirs = errors_against_float64(inputs, dense_sdpa(inputs, schedule), gradient, schedule)
    for our, their in zip(ours, theirs, strict=True):
        assert our <= max(1.5 * their, FLOOR[dtype])


@pytest.mark.parametrize("executor", CPU_EXECUTORS)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_lse(name, dtype, executor):
    schedule = FAMILIES[name]
    inputs, _ = tensors(schedule, dtype)
    with torch.no_grad():
        _, lse = attention(*inputs, schedule, return_lse=True, backend=executor)
        _, exact = naive_attention(*inputs, schedule)
    assert lse.dtype == torch.float32
    torch.testing.assert_close(lse.double(), exact, rtol=0, atol=4 * FLOOR[dtype])


@pytest.mark.parametrize("executor", CPU_EXECUTORS)
def test_empty_rows_are_zero_and_have_no_gradient(executor):
    schedule = FAMILIES["empty_rows"]
    inputs, gradient = tensors(schedule, torch.float32)
    output = attention(*inputs, schedule, backend=executor)
    with torch.no_grad():
        _, lse = attention(*inputs, schedule, return_lse=True, backend=executor)
    query_gradient, *_ = torch.autograd.grad(output, inputs, gradient)
    empty = ~schedule.to_dense_mask().any(1)
    assert torch.all(output[:, empty] == 0)
    assert torch.all(query_gradient[:, empty] == 0)
    assert torch.all(lse[:, :, empty] == -torch.inf)


@pytest.mark.parametrize("backend", [None, "naive", *CPU_EXECUTORS])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_batch_of_none_has_results_of_none(dtype, backend):
    schedule = FAMILIES["fast_wam"]
    inputs, _ = tensors(schedule, dtype, batch=0)
    output = attention(*inputs, schedule, backend=backend)
    assert output.shape == (0, schedule.query_length, 4, 32) and output.dtype == dtype
    gradients = torch.autograd.grad(output.sum(), inputs)
    assert [x.shape for x in gradients] == [x.shape for x in inputs]


@pytest.mark.parametrize("executor", CPU_EXECUTORS)
def test_repeats_to_the_bit(executor):
    schedule = FAMILIES["teacher_forcing"]
    runs = []
    for _ in range(2):
        inputs, gradient = tensors(schedule, torch.float32)
        output = attention(*inputs, schedule, backend=executor)
        runs.append([output, *torch.autograd.grad(output, inputs, gradient)])
    assert all(torch.equal(left, right) for left, right in zip(*runs, strict=True))


@pytest.mark.parametrize("name", ["long", "token_causal"])
@pytest.mark.parametrize("kind", ["fp32", "bf16-tiles", "bf16-vectors"])
def test_the_thread_count_does_not_change_a_bit(kind, name, monkeypatch):
    if kind == "bf16-tiles" and not cpu.has_tiles():
        pytest.skip("no AMX here")
    if kind == "bf16-vectors":
        monkeypatch.setattr(cpu, "has_tiles", lambda: False)
    schedule, dtype = FAMILIES[name], torch.float32 if kind == "fp32" else torch.bfloat16
    runs = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        inputs, gradient = tensors(schedule, dtype, heads=(2, 1), batch=1)
        output, lse = attention(*inputs, schedule, backend="cpu", return_lse=True)
        gradients = torch.autograd.grad((output, lse), inputs, (gradient, torch.ones_like(lse)))
        runs.append([output, lse, *gradients])
    for other in runs[1:]:
        assert all(torch.equal(left, right) for left, right in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("executor", CPU_EXECUTORS)
def test_sliced_tensors_and_expanded_gradients(executor):
    schedule = FAMILIES["policy"]
    inputs, _ = tensors(schedule, torch.float32, heads=(4, 4))
    joint = torch.stack([tensor.detach() for tensor in inputs], dim=3).requires_grad_()
    output = attention(*joint.unbind(3), schedule, backend=executor)
    output.sum().backward()
    exact, _ = naive_attention(*inputs, schedule)
    truth = torch.autograd.grad(exact.sum(), inputs)
    torch.testing.assert_close(output.double(), exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(joint.grad, torch.stack(truth, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_a_strided_head_dim_is_refused_under_a_mask(dtype):
    """torch's flash attention on a CPU would read past it without a word."""
    schedule = FAMILIES["policy"]
    inputs, _ = tensors(schedule, dtype)
    strided = [tensor.mT.contiguous().mT for tensor in inputs]
    with pytest.raises(DispatchError, match="rectangles: the head dim of query, key or value is"):
        attention(*strided, schedule)
    exact, _ = naive_attention(*inputs)
    torch.testing.assert_close(attention(*strided).double(), exact, rtol=0, atol=1e-5)


def test_scale_is_honoured():
    schedule = FAMILIES["fast_wam"]
    inputs, _ = tensors(schedule, torch.float32)
    exact, _ = naive_attention(*inputs, schedule, scale=0.7)
    for executor in CPU_EXECUTORS:
        output = attention(*inputs, schedule, scale=0.7, backend=executor)
        torch.testing.assert_close(output.double(), exact, rtol=0, atol=1e-5)


def test_one_rectangle_takes_torch_attention():
    schedule = Schedule.from_ranges(5, 9, [(0, 5, 2, 7)])
    inputs, gradient = tensors(schedule, torch.float32)
    assert explain_dispatch(*inputs, schedule)[0] == ("sdpa", True, "")
    output = attention(*inputs, schedule)
    assert max(errors_against_float64(inputs, output, gradient, schedule)) < 1e-5
    dense = attention(*inputs)
    assert max(errors_against_float64(inputs, dense, gradient, Schedule.dense(5, 9))) < 1e-5


def test_a_large_dense_rectangle_takes_our_kernels_on_a_cpu():
    def chosen(batch, queries, keys, dtype=torch.float32):
        query = torch.empty(batch, queries, 4, 8, dtype=dtype)
        key = torch.empty(batch, keys, 2, 8, dtype=dtype)
        answers = explain_dispatch(query, key, key, Schedule.dense(queries, keys))
        return next(name for name, accepted, _ in answers if accepted)

    assert chosen(16, 16, 16) == chosen(4, 64, 200) == "cpu"
    assert chosen(1, 16, 16) == chosen(16, 16, 40) == chosen(1, 2000, 2000) == "sdpa"
    assert chosen(16, 16, 16, torch.float16) == "cpu"
    assert chosen(16, 16, 16, torch.float64) == "sdpa"
    half_seen = Schedule.from_ranges(64, 64, [(0, 64, 0, 32)])
    query = torch.empty(16, 64, 4, 8)
    assert explain_dispatch(query, query, query, half_seen)[0][0] == "sdpa"


def test_float64_passes_gradcheck():
    schedule = FAMILIES["empty_rows"]
    inputs, _ = tensors(schedule, torch.float64, heads=(2, 1), head_dim=3, batch=1)
    assert torch.autograd.gradcheck(lambda *x: attention(*x, schedule), inputs, fast_mode=True)


def test_autocast_sets_the_dtype_as_for_torch_attention():
    schedule = FAMILIES["policy"]
    (query, key, value), _ = tensors(schedule, torch.float32)
    expected = attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), schedule)
    with torch.autocast("cpu", torch.bfloat16):
        output = attention(query, key.bfloat16(), value, schedule)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected)
    output.float().sum().backward()
    assert query.grad.dtype == torch.float32


def test_naive_runs_when_named():
    schedule = FAMILIES["policy"]
    inputs, _ = tensors(schedule, torch.float32)
    output, lse = attention(*inputs, schedule, backend="naive", return_lse=True)
    torch.testing.assert_close(output, attention(*inputs, schedule), rtol=0, atol=1e-5)
    assert output.dtype == torch.float32 and lse.shape == (2, 4, schedule.query_length)


def test_dispatch_explains_each_refusal():
    schedule = FAMILIES["policy"]
    inputs, _ = tensors(schedule, torch.float32)
    verdicts = {name: (ok, why) for name, ok, why in explain_dispatch(*inputs, schedule)}
    assert verdicts["sdpa"] == (False, "the schedule is not one dense rectangle")
    assert verdicts["rectangles"] == (True, "")
    on_meta = [tensor.detach().to("meta") for tensor in inputs]
    assert not any(ok for _, ok, _ in explain_dispatch(*on_meta, schedule))
    with pytest.raises(DispatchError, match=r"rectangles: runs on cpu, not on meta"):
        attention(*on_meta, schedule)


def bad_calls():
    query, key = torch.zeros(2, 6, 4, 8), torch.zeros(2, 6, 2, 8)
    good = Schedule.dense(6, 6)
    yield "rank", (query[0], key, key, good), ArgumentError, r"query must have the layout \[B, T"
    yield "dtype", (query, key.double(), key, good), ArgumentError, "key has the dtype"
    yield "int", (query.int(), key.int(), key.int(), good), ArgumentError, "query has the dtype"
    yield "device", (query, key, key.to("meta"), good), ArgumentError, "value is on meta"
    yield "batch", (query, key[:1], key[:1], good), ArgumentError, r"expected \[2, S, G, 8\]"
    yield "value", (query, key, key[:, :3], good), ArgumentError, "expected that of key"
    yield "heads", (query[:, :, :3], key, key, good), ArgumentError, "no multiple of 2 key heads"
    yield "no heads", (query[:, :, :0], key, key, good), ArgumentError, "H and K at least 1"
    narrow = (query[..., :0], key[..., :0], key[..., :0], good)
    yield "no channels", narrow, ArgumentError, "H and K at least 1"
    yield "length", (query, key, key, Schedule.dense(6, 7)), ScheduleError, "6 queries x 7 keys"


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [case[1:] for case in bad_calls()],
    ids=[case[0] for case in bad_calls()],
)
def test_bad_arguments_raise(arguments, kind, message):
    with pytest.raises(kind, match=message):
        attention(*arguments)
    if kind is ArgumentError:
        with pytest.raises(kind, match=message):
            attention(*arguments[:3])


def test_no_tokens_are_refused():
    inputs, _ = tensors(FAMILIES["policy"], torch.float32)
    query, key, value = inputs
    with pytest.raises(ScheduleError, match="query length must be at least 1, not 0"):
        attention(query[:, :0], key, value)
    with pytest.raises(ScheduleError, match="key length must be at least 1, not 0"):
        attention(query, key[:, :0], value[:, :0])


def test_unknown_and_refusing_back_ends_raise():
    inputs, _ = tensors(FAMILIES["policy"], torch.float32)
    with pytest.raises(DispatchError, match="no back end 'magic'"):
        attention(*inputs, FAMILIES["policy"], backend="magic")
    with pytest.raises(DispatchError, match="'sdpa' refuses this call: the schedule is not"):
        attention(*inputs, FAMILIES["policy"], backend="sdpa")
