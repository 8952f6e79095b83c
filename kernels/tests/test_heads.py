"""Norm, rotation and placement of heads against float64: every back end, norm, table and dtype."""

from __future__ import annotations

import math

import pytest
import torch

from wmdsl_kernels import (
    ArgumentError,
    DispatchError,
    Projection,
    cached_heads,
    joint_heads,
    rotated_heads,
)
from wmdsl_kernels.heads import angles, explain_heads, triton_executor
from wmdsl_kernels.heads.naive import naive_heads, naive_joint_heads
from wmdsl_kernels.heads.operators import cached_heads_forward, execute_joint, joint_heads_forward

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1.5e-3, torch.bfloat16: 1e-2}
"""Relative to the largest value: half precision rounds inputs, once, and the result."""
LENGTHS = (19, 1, 70)
CASES = {
    "plain": dict(),
    "per_head": dict(norm="per_head"),
    "across": dict(norm="across"),
    "rope_1d": dict(table="line"),
    "rope_3d_norm": dict(norm="across", table="video"),
    "fractional": dict(norm="per_head", table="fractional", interleaved=True),
    "inner": dict(norm="across", table="inner", interleaved=True, key_heads=6),
    "inner_halves": dict(table="inner", key_heads=6),
    "mixed": dict(norm="mixed", table="line", interleaved=True),
    "queries": dict(table="line", key_heads=0),
    "narrow": dict(norm="per_head", table="line", head_dim=10, heads=3, key_heads=1),
}


def table(kind, tokens, heads, head_dim):
    """Cos and sin of one kind of rotary positions; None without."""
    if kind is None:
        return None, None
    places = torch.arange(tokens).float()
    if kind == "line":
        found = angles.line_angles(places, head_dim)
    elif kind == "inner":
        shares = torch.rand(tokens, 3, generator=torch.Generator().manual_seed(1))
        found = angles.inner_angles(shares, heads, head_dim)
    else:
        time = places / 4 if kind == "fractional" else places // 6
        cells = torch.stack([time, places % 3, places % 2], dim=1)
        found = angles.axis_angles(cells, angles.video_pairs(head_dim))
    return found.cos(), found.sin()


def streams(dtype, norm=None, table_kind=None, heads=6, key_heads=2, head_dim=24):
    """Streams of three lengths whose projections lie in wider tensors."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for number, tokens in enumerate(LENGTHS):
        rows = heads + 2 * key_heads
        wide = torch.randn(2, tokens, rows + 3, head_dim, generator=generator).to(dtype)
        across = norm == "across" or (norm == "mixed" and number == 1)
        weights = [None, None]
        if norm and not (norm == "mixed" and number == 0):
            shapes = [(count, head_dim) if across else (head_dim,) for count in (heads, key_heads)]
            weights = [1 + 0.3 * torch.randn(shape, generator=generator) for shape in shapes]
        leaves = [wide[:, :, :rows].detach(), *weights]
        leaves = [None if leaf is None else leaf.requires_grad_() for leaf in leaves]
        made.append(Projection(*leaves, *table(table_kind, tokens, heads, head_dim)))
    return made


def case(dtype, norm=None, table=None, heads=6, key_heads=2, head_dim=24, interleaved=False):
    return streams(dtype, norm, table, heads, key_heads, head_dim), (heads, key_heads, interleaved)


def leaves_of(made):
    return [t for stream in made for t in stream[:3] if t is not None]


def widened(made):
    """The same streams in float64, with leaves of their own."""
    copies = []
    for stream in made:
        wide = [None if t is None else t.detach().double() for t in stream]
        copies.append(Projection(*(t if t is None else t.requires_grad_() for t in wide[:3])))
        copies[-1] = copies[-1]._replace(cos=wide[3], sin=wide[4])
    return copies


def errors(made, heads, key_heads, interleaved, run):
    """Largest errors of outputs and gradients relative to the largest value."""
    wide = widened(made)
    truth = naive_joint_heads(wide, heads, key_heads, interleaved)
    found = run(made, heads, key_heads, interleaved)
    generator = torch.Generator().manual_seed(2)
    slopes = [torch.randn(part.shape, generator=generator).to(part.dtype) for part in found]
    gradients = torch.autograd.grad(found, leaves_of(made), slopes)
    exact = torch.autograd.grad(truth, leaves_of(wide), [slope.double() for slope in slopes])
    assert all(g.dtype == leaf.dtype for g, leaf in zip(gradients, leaves_of(made), strict=True))
    pairs = [*zip(found, truth, strict=True), *zip(gradients, exact, strict=True)]
    pairs = [(left, right) for left, right in pairs if right.numel()]
    return [((left - right).abs().max() / right.abs().max()).item() for left, right in pairs]


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_on_a_cpu(name, dtype, backend):
    made, shape = case(dtype, **CASES[name])

    def run(made, heads, key_heads, interleaved):
        return joint_heads(made, heads, key_heads, interleaved=interleaved, backend=backend)

    assert max(errors(made, *shape, run)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_a_batch_of_none_has_results_of_none(backend):
    made, shape = case(torch.float32, norm="per_head", table="line")
    made = [stream._replace(heads=stream.heads[:0]) for stream in made]
    query, key, value = joint_heads(made, *shape[:2], backend=backend)
    assert query.shape == (0, sum(LENGTHS), 6, 24) and key.shape == value.shape
    gradients = torch.autograd.grad((query.sum() + key.sum() + value.sum()), leaves_of(made))
    assert [x.shape for x in gradients] == [x.shape for x in leaves_of(made)]


@pytest.fixture
def interpreted():
    pytest.importorskip("triton")
    from wmdsl_kernels.heads import triton_kernels
    from wmdsl_kernels.testing import interpreter

    with interpreter.interpreted(triton_kernels):
        yield


HALVES = [pytest.param(DTYPES[name], marks=pytest.mark.slow, id=name) for name in ("fp16", "bf16")]


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("dtype", [pytest.param(torch.float32, id="fp32"), *HALVES])
@pytest.mark.parametrize("name", CASES)
def test_interpreted(name, dtype):
    made, shape = case(dtype, **CASES[name])

    def run(made, heads, key_heads, interleaved):
        return execute_joint(made, heads, key_heads, interleaved, 1e-6, "triton")

    assert max(errors(made, *shape, run)) <= TOLERANCE[dtype]


def check_cache(dtype, store):
    """Queries, and what `store` writes to pools, against float64; other slots stay as they were."""
    made, (heads, key_heads, interleaved) = case(dtype, **CASES["fractional"])
    stream = made[2]
    pools = torch.full((2, 300, key_heads, 24 + 4), 7.0, dtype=dtype)[..., :24]
    slots = torch.randperm(300, generator=torch.Generator().manual_seed(3))[:140].int().view(2, 70)
    slots[0, 3:9] = -1
    query = store(stream, heads, key_heads, *pools, slots, interleaved)
    exact = naive_heads(stream, heads, key_heads, interleaved, 1e-6)
    kept = slots >= 0
    assert not query.requires_grad
    for found, true in ((query, exact[0]), *zip(pools, exact[1:], strict=True)):
        if found is not query:
            untouched = torch.ones(300, dtype=torch.bool)
            untouched[slots[kept].long()] = False
            assert torch.all(found[untouched] == 7)
            found, true = found[slots[kept].long()], true[kept]
        torch.testing.assert_close(found.double(), true, rtol=0, atol=4 * TOLERANCE[dtype])


@pytest.mark.parametrize("backend", ["cpu", "torch", "triton"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_cache_keeps_what_is_not_named(dtype, backend, request):
    if backend == "triton":
        request.getfixturevalue("interpreted")

    def store(*arguments):
        *shared, interleaved = arguments
        if backend == "triton":
            return triton_executor.store(*shared, interleaved, 1e-6)
        return cached_heads(*shared, interleaved=interleaved, backend=backend)

    check_cache(dtype, store)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotated_heads_are_those_of_queries_alone(interleaved):
    made, (heads, _, _) = case(torch.float32, **CASES["queries"])
    x, cos, sin = made[2].heads, made[2].cos, made[2].sin
    found = rotated_heads(x, cos, sin, interleaved=interleaved)
    exact = naive_joint_heads(made[2:], heads, 0, interleaved)[0]
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5)
    slope = torch.randn(found.shape, generator=torch.Generator().manual_seed(4))
    gradients = [torch.autograd.grad(output, x, slope)[0] for output in (found, exact)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)
    with pytest.raises(ArgumentError, match=r"x must have the layout \[B, T, H, K\]"):
        rotated_heads(x[0], cos, sin)
    with pytest.raises(ArgumentError, match="cos of stream 0 has the shape"):
        rotated_heads(x[:, 1:], cos, sin)


def test_float64_passes_gradcheck():
    made, (heads, key_heads, _) = case(torch.float64, norm="across", table="line", head_dim=4)
    leaves = [t.detach().double().requires_grad_() for t in made[1][:3]]

    def run(*leaves):
        return joint_heads([Projection(*leaves, *made[1][3:])], heads, key_heads)

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


def test_the_thread_count_does_not_change_a_bit():
    runs = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        made, (heads, key_heads, _) = case(torch.float32, **CASES["rope_3d_norm"])
        output = joint_heads(made, heads, key_heads, backend="cpu")
        slopes = [torch.ones_like(part) for part in output]
        runs.append([*output, *torch.autograd.grad(output, leaves_of(made), slopes)])
    for other in runs[1:]:
        assert all(torch.equal(left, right) for left, right in zip(runs[0], other, strict=True))


def test_partial_and_expanded_gradients():
    made, (heads, key_heads, _) = case(torch.float32, **CASES["per_head"])
    query, _, _ = joint_heads(made, heads, key_heads, backend="cpu")
    found = torch.autograd.grad(query.sum(), leaves_of(made)[:1])
    wide = widened(made)
    truth = torch.autograd.grad(naive_joint_heads(wide, heads, key_heads)[0].sum(), wide[0].heads)
    torch.testing.assert_close(found[0].double(), truth[0], rtol=0, atol=1e-5)


def test_axes_and_fractions_of_the_tables():
    line = angles.line_angles(torch.tensor([0.0, 2.0]), 4)
    torch.testing.assert_close(line, torch.tensor([[0.0, 0.0], [2.0, 0.02]]))
    assert angles.video_pairs(128) == (22, 21, 21)
    inner = angles.inner_angles(torch.tensor([[0.0, 0.5, 1.0]]), 2, 8)
    assert inner.shape == (1, 2, 4)
    flat = inner.flatten()
    assert flat[:2].tolist() == [0, 0]
    torch.testing.assert_close(flat[2:5], torch.tensor([-1.0, 0.0, 1.0]) * math.pi / 2)
    torch.testing.assert_close(flat[5:], torch.tensor([-1.0, 0.0, 1.0]) * math.pi / 2 * 10000)


def test_refusals_are_explained():
    made, (heads, key_heads, _) = case(torch.float64)
    verdicts = {name: (ok, why) for name, ok, why in explain_heads(made, heads, key_heads)}
    assert verdicts["cpu"] == (False, "no torch.float64")
    assert verdicts["triton"] == (False, "runs on cuda, not on cpu")
    assert verdicts["torch"] == (True, "")
    with pytest.raises(DispatchError, match="'cpu' refuses this call: no torch.float64"):
        joint_heads(made, heads, key_heads, backend="cpu")
    spread = [stream._replace(heads=torch.zeros(2, 5, 10, 48)[..., ::2]) for stream in made[:1]]
    verdicts = {name: why for name, _, why in explain_heads(spread, heads, key_heads)}
    assert verdicts["cpu"] == "the last dimension of a tensor is not contiguous"
    query, key, value = joint_heads(made, heads, key_heads, backend="naive")
    assert query.dtype == key.dtype == value.dtype == torch.float64


def bad_calls():
    good = Projection(torch.zeros(2, 5, 10, 8))
    half = torch.zeros(5, 4)
    yield "none", [], "at least one stream"
    yield "rank", [good, Projection(good.heads[0])], r"heads of stream 1 must have the layout"
    yield "rows", [Projection(good.heads[:, :, 1:])], r"expected \[2, 5, 10, 8\]"
    yield "odd", [Projection(good.heads[..., 1:])], "must be even, not 7"
    yield "dtype", [good, Projection(good.heads.half())], "heads of stream 1 has the dtype"
    yield "norm", [good._replace(key_norm=torch.zeros(6, 8))], r"expected \[8\] or \[2, 8\]"
    yield "lone", [good._replace(cos=half)], "only one of cos and sin"
    yield "table", [good._replace(cos=half[1:], sin=half)], r"cos of stream 0 has .* \[4, 4\]"
    per_head = torch.zeros(5, 6, 4)
    yield "grouped", [good._replace(cos=per_head, sin=per_head)], "as many key heads"
    slope = torch.zeros(5, 4, requires_grad=True)
    yield "gradient", [good._replace(cos=half, sin=slope)], "sin of stream 0 requires a gradient"
    yield "device", [good._replace(query_norm=torch.zeros(8, device="meta"))], "is on meta"


@pytest.mark.parametrize(
    ("made", "message"), [c[1:] for c in bad_calls()], ids=[c[0] for c in bad_calls()]
)
def test_bad_arguments_raise(made, message):
    with pytest.raises(ArgumentError, match=message):
        joint_heads(made, 6, 2)


def test_bad_caches_raise():
    stream, pool = Projection(torch.zeros(2, 5, 10, 8)), torch.zeros(20, 2, 8)
    slots = torch.arange(10).int().view(2, 5)
    with pytest.raises(ArgumentError, match="slots has the dtype torch.int64"):
        cached_heads(stream, 6, 2, pool, pool.clone(), slots.long())
    with pytest.raises(ArgumentError, match=r"slots has the shape \[2, 4\]"):
        cached_heads(stream, 6, 2, pool, pool.clone(), slots[:, 1:])
    with pytest.raises(ArgumentError, match=r"value_pool has the shape .* expected \[P, 2, 8\]"):
        cached_heads(stream, 6, 2, pool, pool[:, :1], slots)
    with pytest.raises(ArgumentError, match="key_pool has the dtype torch.float16"):
        cached_heads(stream, 6, 2, pool.half(), pool, slots)
    with pytest.raises(ArgumentError, match="value_pool has the shape .* both pools alike"):
        cached_heads(stream, 6, 2, pool, pool[:19].clone(), slots)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_a_slot_beyond_the_pool_is_refused_and_nothing_written(backend):
    stream, pools = Projection(torch.ones(2, 5, 10, 8)), torch.zeros(2, 20, 2, 8)
    slots = torch.arange(11, 21).int().view(2, 5)
    with pytest.raises(ArgumentError, match="slots names slot 20, the pools have 20"):
        cached_heads(stream, 6, 2, *pools, slots, backend=backend)
    assert not pools.any()


@pytest.mark.parametrize("executor", ["cpu", "triton"])
def test_torch_checks_pass(executor, request):
    if executor == "triton":
        request.getfixturevalue("interpreted")
    made, (heads, key_heads, _) = case(torch.float32, **CASES["mixed"])
    empty = torch.empty(0)
    filled = [[empty if t is None else t for t in stream] for stream in made]
    constants = (heads, key_heads, True, 1e-6, executor)
    columns = [list(column) for column in zip(*filled, strict=True)]
    torch.library.opcheck(joint_heads_forward, (*columns, *constants))
    pools = torch.zeros(2, 8, key_heads, 24)
    slots = torch.tensor([[3], [-1]], dtype=torch.int32)
    stream = [t.detach() for t in filled[1]]
    arguments = (*stream, heads, key_heads, *pools.unbind(), slots, True, 1e-6, executor)
    torch.library.opcheck(cached_heads_forward, arguments)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_has_no_graph_break_and_the_same_gradient(backend):
    made, (heads, key_heads, _) = case(torch.float32, **CASES["rope_3d_norm"])

    def run(*leaves):
        three = zip(leaves[::3], leaves[1::3], leaves[2::3], made, strict=True)
        parts = [Projection(*part, cos=old.cos, sin=old.sin) for *part, old in three]
        return joint_heads(parts, heads, key_heads)

    leaves, results = leaves_of(made), []
    for call in (run, torch.compile(run, fullgraph=True, backend=backend)):
        output = call(*leaves)
        slopes = [torch.ones_like(part) for part in output]
        results.append([*output, *torch.autograd.grad(output, leaves, slopes)])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-5)


class Turner(torch.nn.Module):
    def forward(self, x, cos, sin):
        return rotated_heads(x, cos, sin)


def test_export_keeps_the_operator_and_the_result():
    made, _ = case(torch.float32, **CASES["queries"])
    inputs = (made[2].heads.detach(), made[2].cos, made[2].sin)
    program = torch.export.export(Turner(), inputs)
    names = {str(node.target) for node in program.graph.nodes}
    assert "wmdsl_kernels.joint_heads_forward.default" in names
    assert torch.equal(program.module()(*inputs), Turner()(*inputs))
