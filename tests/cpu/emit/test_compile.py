"""`torch.compile` takes a query whole; nothing else in the project needs it."""

import torch

import wmdsl
from tests.cpu.conftest import PARADIGMS
from wmdsl.runtime.sample import random_batch


def test_a_query_is_one_graph():
    """Its noise is torch's own: dynamo cannot trace a generator as an argument."""
    module = wmdsl.compile(PARADIGMS / "no_world_model.wm").eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.02 * torch.randn_like(weight)
    batch = random_batch(module.plan.model, 1, "policy")
    ask = torch.compile(
        lambda batch: module.query("policy", batch), fullgraph=True, backend="aot_eager"
    )
    answers = []
    for asked in (ask, ask, lambda batch: module.query("policy", batch)):
        torch.manual_seed(0)
        answers.append(asked(batch)["action"])
    assert torch.equal(*answers[:2])
    torch.testing.assert_close(answers[1], answers[2])
