"""On a card: CUDA graphs answer as the query does, bit for bit; sessions and runs on a GPU."""

import numpy as np
import pytest
import torch

import wmdsl
from tests.runtime.conftest import SIZE
from tests.runtime.test_capturable import SPECS, programs
from wmdsl.data import keys
from wmdsl.runtime.ask import ask_run
from wmdsl.runtime.device import device_of, moved, noise_of
from wmdsl.runtime.evaluate import latency
from wmdsl.runtime.graphs import captured
from wmdsl.runtime.sample import random_batch

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda", 0)


def on_gpu(path):
    """A module with all weights moved off zero: a closed gate would hide everything."""
    torch.manual_seed(0)
    module = wmdsl.compile(path)
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.02 * torch.randn_like(weight)
    return module.to(GPU).eval()


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_graph_answers_as_the_query_does(path):
    """Every query, at several shapes, each again with other inputs and fresh noise."""
    module = on_gpu(path)
    for query in programs(module):
        ask, ours, theirs = captured(module, query), noise_of(module, 3), noise_of(module, 3)
        for turn, size in enumerate((1, 3, 1, 3, 1)):
            batch = random_batch(module.plan.model, size, seed=turn)
            wanted = module.query(query, moved(batch, GPU), theirs)
            assert equal(ask(batch, ours), wanted)
        assert torch.equal(ours.get_state(), theirs.get_state())
        assert len(ask.recordings) == 2


def test_noise_is_fresh_and_begins_with_the_seed():
    module = on_gpu(SPECS[0])
    query = next(iter(module.plan.queries))
    ask, batch = captured(module, query), random_batch(module.plan.model, 1)
    noise = noise_of(module, 0)
    first, second = ask(batch, noise), ask(batch, noise)
    assert not any(torch.equal(first[name], second[name]) for name in first)
    assert equal(ask(batch, noise_of(module, 0)), first)
    torch.manual_seed(7)
    wanted = module.query(query, moved(batch, GPU))
    torch.manual_seed(7)
    assert equal(ask(batch), wanted)


def test_weights_that_change_are_read_anew():
    module = on_gpu(SPECS[0])
    query, batch = next(iter(module.plan.queries)), random_batch(module.plan.model, 1)
    ask = captured(module, query)

    def agrees():
        wanted = module.query(query, moved(batch, GPU), noise_of(module, 0))
        return equal(ask(batch, noise_of(module, 0)), wanted)

    assert agrees()
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(0.5)
    assert agrees()
    module.load_state_dict({n: 2 * x for n, x in module.state_dict().items()}, assign=True)
    assert agrees()


def observation(seed):
    rng = np.random.default_rng(seed)
    return {
        keys.STATE: rng.normal(size=3).astype(np.float32),
        keys.image_key("top"): rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8),
        keys.TASK: f"task {seed}",
    }


def chunks(module, **settings):
    """Three turns of two episodes beside each other, of which one ends early."""
    session = wmdsl.session(module, seed=3, **settings)
    session.reset(2)
    found = []
    for turn, slots in enumerate([(0, 1), (0, 1), (0,)]):
        places = [{"slot": slot, "step": turn * session.execute} for slot in slots]
        found += [*session.act([{**observation(turn), **place} for place in places])]
    return np.stack(found)


@pytest.mark.parametrize("settings", [{}, {"execute": 1, "prefetch": True}], ids=["", "prefetch"])
def test_a_session_with_and_without_graphs(finished, settings):
    """The same chunks, though a thread may have captured them."""
    module = wmdsl.load(finished).to(GPU)
    plain = chunks(module, **settings)
    assert np.isfinite(plain).all() and len(plain) == 5
    assert np.array_equal(plain, chunks(module, graph=True, **settings))


def test_a_run_on_a_gpu(finished, dataset, tmp_path):
    written = ask_run(finished, "world", dataset, tmp_path, samples=2, device=GPU)
    assert all(path.stat().st_size > 100 for path in written)
    module = wmdsl.load(finished).to(GPU)
    assert device_of(module) == GPU
    assert all(ms > 0 for ms in latency(module, "policy", graph=True).values())
