"""On a card: the Triton kernels as they are compiled, against float64 and against themselves.

Cases and bounds are those of the tests on a CPU; only the calls run on the device.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._pytree import tree_map_only

from kernels.tests import test_adaln as adaln
from kernels.tests import test_decode as decoding
from kernels.tests import test_grouped as grouped
from kernels.tests import test_heads as heads
from kernels.tests.test_cross import DTYPES, REPRESENTATIVE, Case, cases
from wmdsl_kernels import (
    Schedule,
    attention,
    cached_heads,
    decode_attention,
    gated_residual,
    grouped_linear,
    joint_heads,
    modulated_norm,
)
from wmdsl_kernels.attention import decode, triton_executor
from wmdsl_kernels.attention.describe import describe
from wmdsl_kernels.bench import masks
from wmdsl_kernels.testing.families import FAMILIES

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cuda", 0)

EACH_FAMILY_ONCE_AND_ONE_IN_ALL = cases(lambda c: c in REPRESENTATIVE or c[0] == "policy")
TWICE = {
    "descriptors": ("pi0", "bf16", 128),
    "narrow": ("lingbot_window", "fp16", 128),
    "stairs": ("token_causal", "bf16", 64),
    "single": ("long", "fp32", 48),
    "empty_rows": ("empty_rows", "bf16", 256),
}
ADALN_SHAPES = {**adaln.SHAPES, "model": (1, (40, 3), 3072)}

IN_SHARES = {
    "actions": (Schedule.from_ranges(33, 4200, [(0, 32, 0, 4128), (32, 33, 10, 20)]), "bf16", 128),
    "stairs": (masks.token_causal(600), "fp16", 64),
    "tall": (masks.policy(300, 4, 500, 300), "fp32", 48),
    "empty": (Schedule.from_ranges(300, 900, [(4, 9, 0, 900), (17, 250, 5, 6)]), "bf16", 256),
}

each_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def placed(tensor):
    """The tensor on the device, with the strides it has: `to` would close the gaps of a slice."""
    there = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=DEVICE)
    return there.copy_(tensor)


def on_card(function, **options):
    """The function on the device: tensors of the CPU are brought there, and results back."""

    def run(*arguments):
        found = function(*tree_map_only(torch.Tensor, placed, arguments), **options)
        return tree_map_only(torch.Tensor, torch.Tensor.cpu, found)

    return run


def attended(case, schedule):
    """Output, LSE and gradients of a case by the Triton kernels."""
    leaves = [tensor.detach().requires_grad_() for tensor in case.inputs]
    run = on_card(attention, return_lse=True, backend="triton")
    output, lse = run(*leaves, schedule)
    return output.detach(), lse, torch.autograd.grad(output, leaves, case.gradient)


@pytest.mark.parametrize(("family", "dtype", "head_dim"), EACH_FAMILY_ONCE_AND_ONE_IN_ALL)
def test_attention(family, dtype, head_dim):
    case = Case(FAMILIES[family], DTYPES[dtype], head_dim, batch=2)
    output, lse, gradients = attended(case, FAMILIES[family])
    case.compare(output, lse, gradients if case.with_gradients else (), dtype)


@pytest.mark.parametrize(("schedule", "dtype", "head_dim"), IN_SHARES.values(), ids=IN_SHARES)
def test_attention_in_shares_of_keys(schedule, dtype, head_dim):
    case = Case(schedule, DTYPES[dtype], head_dim, batch=1)
    query, key, value = map(placed, case.inputs)
    request = describe(query, key, value, schedule, wants_lse=True)
    assert schedule.buffers(DEVICE, triton_executor.tiling(request)).shares.most > 1
    output, lse, gradients = attended(case, schedule)
    case.compare(output, lse, gradients if case.with_gradients else (), dtype)


def test_a_batch_of_none_has_results_of_none():
    case = Case(FAMILIES["fast_wam"], torch.bfloat16, 64, batch=0)
    output, lse, gradients = attended(case, FAMILIES["fast_wam"])
    assert output.shape[0] == lse.shape[0] == 0
    assert [gradient.shape for gradient in gradients] == [leaf.shape for leaf in case.inputs]


@pytest.mark.parametrize(("family", "dtype", "head_dim"), TWICE.values(), ids=TWICE)
def test_attention_twice_is_the_same_bit_for_bit(family, dtype, head_dim):
    case = Case(FAMILIES[family], DTYPES[dtype], head_dim, batch=2)
    (output, lse, gradients), again = (attended(case, FAMILIES[family]) for _ in range(2))
    for left, right in zip((output, lse, *gradients), (*again[:2], *again[2]), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(("dtype", "queries", "heads", "head_dim", "tile"), decoding.TILES)
def test_decoding(dtype, queries, heads, head_dim, tile, monkeypatch):
    monkeypatch.setattr(decode, "EXECUTORS", {"triton": decode.EXECUTORS["triton"]})
    inputs = decoding.strided_case(dtype, heads, 150, queries, head_dim)
    decoding.compare(inputs, on_card(decode_attention, return_lse=True)(*inputs))


@each_dtype
@pytest.mark.parametrize("name", heads.CASES)
def test_heads(name, dtype):
    made, shape = heads.case(dtype, **heads.CASES[name])

    def run(made, count, key_heads, interleaved):
        call = on_card(joint_heads, interleaved=interleaved, backend="triton")
        return call(made, count, key_heads)

    assert max(heads.errors(made, *shape, run)) <= heads.TOLERANCE[dtype]


@each_dtype
def test_cached_heads(dtype):
    def store(*arguments):
        *shared, interleaved = tree_map_only(torch.Tensor, placed, arguments)
        query = cached_heads(*shared, interleaved=interleaved, backend="triton")
        for pool, filled in zip(arguments[3:5], shared[3:5], strict=True):
            pool.copy_(filled)
        return query.cpu()

    heads.check_cache(dtype, store)


@each_dtype
@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("shape", ADALN_SHAPES.values(), ids=ADALN_SHAPES)
def test_modulated_norm(shape, kind, dtype):
    run = on_card(modulated_norm, kind=kind, backend="triton")
    assert max(adaln.norm_errors(dtype, shape, kind, run)) <= adaln.TOLERANCE[dtype]


@each_dtype
@pytest.mark.parametrize("shape", ADALN_SHAPES.values(), ids=ADALN_SHAPES)
def test_gated_residual(shape, dtype):
    run = on_card(gated_residual, backend="triton")
    assert max(adaln.gate_errors(dtype, shape, run)) <= adaln.TOLERANCE[dtype]


@each_dtype
def test_grouped_linear(dtype):
    run = on_card(grouped_linear, backend="triton")
    assert max(grouped.errors(dtype, run)) <= grouped.TOLERANCE[dtype]
