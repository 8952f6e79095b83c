"""FlexAttention and xformers as back ends: their refusals, and their numbers on a CPU."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from wmdsl_kernels import DispatchError, attention, explain_dispatch
from wmdsl_kernels.attention import flex, xformers_attention
from wmdsl_kernels.attention.describe import describe
from wmdsl_kernels.attention.naive import naive_attention
from wmdsl_kernels.attention.refusals import RULES, preferred, turning_batch, verdicts
from wmdsl_kernels.attention.request import Request
from wmdsl_kernels.testing.families import FAMILIES

POLICY = FAMILIES["policy"]
ON_GPU = Request("cuda", "bfloat16", 2, POLICY.query_length, POLICY.key_length, 4, 2, 64, POLICY)


def tensors(schedule, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    lengths = (schedule.query_length, schedule.key_length, schedule.key_length)
    return [
        torch.randn(2, length, heads, 16, generator=generator).to(dtype)
        for length, heads in zip(lengths, (4, 2, 2), strict=True)
    ]


def has_everything(name):
    return None


def accepting(request):
    return [name for name, accepted, _ in verdicts(request, has_everything) if accepted]


def test_on_a_gpu_three_back_ends_honour_a_mask():
    assert accepting(ON_GPU) == ["triton", "flex", "xformers"]


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        ({"device": "cpu"}, "flex", "no gradient on a CPU"),
        ({"device": "cpu"}, "xformers", "runs on cuda, not on cpu"),
        ({"head_dim": 8}, "flex", "head dim 8 is below 16"),
        ({"head_dim": 20}, "xformers", "a head of 40 bytes is no multiple of 16"),
        ({"head_dim": 320}, "triton", "head dim 320 is above 256"),
        ({"dtype": "float64"}, "flex", "no float64; it has float32, float16, bfloat16"),
        ({"dtype": "float64", "device": "cpu"}, "cpu", "it has float32, float16, bfloat16"),
        ({"wants_lse": True}, "xformers", "does not return the LSE"),
        ({"schedule": FAMILIES["empty_rows"]}, "xformers", "sees no key would get NaN"),
        ({"capability": 100}, "xformers", "end at compute capability 9.0"),
        ({"capability": 75}, "triton", "compute capability is below 8.0"),
        ({"traced": True}, "flex", "inside a traced module"),
        ({"unit_stride": False}, "triton", "head dim of query, key or value is not contiguous"),
    ],
)
def test_refusals_name_their_reason(change, name, reason):
    answers = {n: (ok, why) for n, ok, why in verdicts(replace(ON_GPU, **change), has_everything)}
    assert not answers[name][0] and reason in answers[name][1]


def test_a_missing_package_is_a_refusal():
    answers = verdicts(ON_GPU, lambda name: f"{name} is not installed")
    assert ("flex", False, "flex is not installed") in answers


def test_a_real_call_is_explained_by_the_same_rules():
    query, key, value = tensors(POLICY)
    request = describe(query, key, value, POLICY, False)
    reasons = {name: why for name, _, why in explain_dispatch(query, key, value, POLICY)}
    assert {name: rule(request) for name, rule in RULES.items() if rule(request)}.items() <= (
        reasons.items()
    )
    for name in ("flex", "xformers"):
        with pytest.raises(DispatchError, match=f"{name!r} refuses this call"):
            attention(query, key, value, POLICY, backend=name)


def test_the_rules_load_no_torch():
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from wmdsl_kernels import Schedule, attention, explain_dispatch\n"
        "from wmdsl_kernels import toolchain\n"
        "from wmdsl_kernels.attention.refusals import verdicts\n"
        "print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.strip() == "False", answer.stderr


@pytest.mark.parametrize("name", FAMILIES)
def test_flex_under_its_block_mask(name, monkeypatch):
    from torch.nn.attention.flex_attention import flex_attention

    monkeypatch.setattr(flex, "_compiled", lambda: flex_attention)
    schedule = FAMILIES[name]
    inputs = tensors(schedule)
    output, lse = flex.attend(*inputs, describe(*inputs, schedule, True), 0.3)
    exact, exact_lse = naive_attention(*inputs, schedule, 0.3)
    torch.testing.assert_close(output.double(), exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(lse.double(), exact_lse, rtol=0, atol=1e-5)


def described_attention(query, key, value, attn_bias, scale):
    """What xformers documents: softmax(query key^T scale + bias) value over [B, T, H, K]."""
    scores = torch.einsum("bthk,bshk->bhts", query, key) * scale + attn_bias
    return torch.einsum("bhts,bshk->bthk", scores.softmax(-1), value)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "empty_rows"])
def test_xformers_gets_the_mask_as_an_aligned_bias(name, monkeypatch):
    operations = pytest.importorskip("xformers.ops")
    monkeypatch.setattr(operations, "memory_efficient_attention", described_attention)
    schedule = FAMILIES[name]
    inputs = [tensor.requires_grad_() for tensor in tensors(schedule)]
    output, _ = xformers_attention.attend(*inputs, describe(*inputs, schedule, False), 0.3)
    exact, _ = naive_attention(*inputs, schedule, 0.3)
    torch.testing.assert_close(output.double(), exact, rtol=0, atol=1e-5)
    bias = xformers_attention._bias(schedule, torch.float32, torch.device("cpu"))
    assert bias.stride(0) % 8 == 0
    found = torch.autograd.grad(output.sum(), inputs)
    truth = torch.autograd.grad(exact.sum(), inputs)
    for our, true in zip(found, truth, strict=True):
        torch.testing.assert_close(our.double(), true.double(), rtol=0, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["flex", "xformers"])
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "empty_rows"])
def test_back_ends_on_the_card(name, backend):
    if backend == "xformers" and xformers_attention.missing():
        pytest.skip(xformers_attention.missing())
    schedule = FAMILIES[name]
    inputs = [tensor.cuda().requires_grad_() for tensor in tensors(schedule)]
    output = attention(*inputs, schedule, backend=backend)
    exact, _ = naive_attention(*inputs, schedule)
    torch.testing.assert_close(output.double(), exact, rtol=0, atol=5e-3)
    found = torch.autograd.grad(output.sum(), inputs)
    truth = torch.autograd.grad(exact.sum(), inputs)
    for our, true in zip(found, truth, strict=True):
        torch.testing.assert_close(our.double(), true.double(), rtol=0, atol=5e-2)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("tokens", [42, 64, 600, 1100])
def test_the_preference_turns_at_the_batch_that_is_named(tokens, device):
    one = Request(device, "float32", 1, tokens, tokens, 4, 4, 64, None)
    orders = [preferred(replace(one, batch=batch)) for batch in range(1, 20)]
    turns = [batch for batch in range(2, 20) if orders[batch - 1] != orders[batch - 2]]
    assert turns == [batch for batch in [turning_batch(one)] if batch]
