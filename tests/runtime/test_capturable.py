"""No query needs the host: shapes and devices of every emitted program on a GPU without numbers."""

from pathlib import Path

import pytest
import torch

import wmdsl
from tests.atlas.systems import ATLAS, SYSTEMS
from tests.runtime.fake_gpu import fake_gpu
from wmdsl.blocks.batch import embodiments
from wmdsl.lower.queries import method_name
from wmdsl.plan.named import questions
from wmdsl.runtime.device import moved
from wmdsl.runtime.graphs import DeviceOnly, HostNeeded
from wmdsl.runtime.sample import random_batch

ROOT = Path(__file__).parents[2]
SPECS = [
    *sorted((ROOT / "examples" / "paradigms").glob("*.wm")),
    *sorted((ROOT / "examples" / "hybrids").glob("*.wm")),
    *sorted((ROOT / "tests" / "cpu" / "emit" / "specs").glob("*.wm")),
]


def programs(module):
    """A name of each query that the emitted file has."""
    asked = questions(module.plan)
    return list({method_name(asked[name]): name for name in module.answers}.values())


def ask_without_host(module, draws=1):
    """Ask every query on a GPU; the second time, when all tables are made, without the host."""
    batch = random_batch(module.plan.model, 2)
    with fake_gpu() as gpu:
        module.to_empty(device=gpu)
        batch = moved(batch, gpu)
        for query in programs(module):
            module.query(query, batch, steps=1, draws=draws)
            with DeviceOnly():
                answer = module.query(query, batch, steps=2, draws=draws)
            assert answer and all(values.device == gpu for values in answer.values())


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_no_query_needs_the_host(path):
    ask_without_host(wmdsl.compile(path).eval())


def test_several_draws_need_no_host():
    ask_without_host(wmdsl.compile(ROOT / "examples" / "paradigms" / "mot.wm").eval(), draws=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_no_query_of_a_published_system_needs_the_host(name):
    """With stand-ins for pretrained parts."""
    ask_without_host(wmdsl.compile(ATLAS / f"{name}.wm", size="tiny").eval())


def test_an_unknown_embodiment_is_refused_where_it_is_known():
    """The host is not to wait for a GPU: there the device itself refuses."""
    like = torch.zeros(1)
    number = torch.tensor([0, 3])
    assert torch.equal(embodiments({"embodiment": number}, 2, 4, like), number)
    with pytest.raises(ValueError, match="from 0 to 2"):
        embodiments({"embodiment": number}, 2, 3, like)
    with fake_gpu() as gpu:
        number = number.to(gpu)
        with DeviceOnly():
            assert embodiments({"embodiment": number}, 2, 3, like) is number


NEEDS_HOST = {
    "a number": lambda x: x.sum().item(),
    "a truth": lambda x: bool((x > 0).any()),
    "places": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 0],
    "unequal rows": lambda x: torch.unique(x, dim=0),
    "a list": lambda x: x.tolist(),
    "a copy to the host": lambda x: x.cpu(),
    "a copy from the host": lambda x: x + torch.tensor([1.0, 2.0], device=x.device),
    "a new tensor": lambda x: x.new_tensor([1.0, 2.0]),
    "numbers of the host": lambda x: x + torch.arange(2).sum(),
}


@pytest.mark.parametrize("need", NEEDS_HOST.values(), ids=NEEDS_HOST)
def test_what_a_graph_cannot_hold(need):
    with fake_gpu() as gpu:
        x = torch.ones(3, 2, device=gpu)
        with DeviceOnly(), pytest.raises(HostNeeded):
            need(x)


def test_what_a_graph_can_hold():
    with fake_gpu() as gpu:
        x, rows = torch.ones(3, 2, device=gpu), torch.zeros(4, dtype=torch.int64, device=gpu)
        with DeviceOnly():
            kept = torch.where(x > 0, x, 0)[rows, 1:] + torch.randn(4, 1, device=gpu)
        assert kept.shape == (4, 1) and kept.device == gpu
