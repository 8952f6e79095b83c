"""Adapters of low rank change nothing at first, and are all that is trained."""

import pytest
import torch
from torch import nn

from wmdsl.blocks.decoder import DecoderBlock
from wmdsl.blocks.dit import AdaLN, DiTBlock
from wmdsl.blocks.heads import Heads
from wmdsl.blocks.lora import adapt


def trunk(kind):
    if kind == "dit":
        block = DiTBlock(8, Heads(8, 2, 2, 4), AdaLN(8, count=6), 16)
    else:
        block = DecoderBlock(8, Heads(8, 2, 1, 4, bias=False), 16)
    parts = {"words_in": nn.Linear(4, 8), "slots_in": nn.Linear(4, 8), "blocks": [block]}
    parts["blocks"] = nn.ModuleList(parts["blocks"])
    return nn.ModuleDict(parts)


@pytest.mark.parametrize("kind", ["dit", "decoder"])
def test_adapters(kind):
    made, x = trunk(kind), torch.randn(2, 3, 8)
    block = made.blocks[0]
    names = set(made.state_dict())
    before = block.ffn(x), block.heads.inward(x), block.heads.outward(x)
    adapt(made, 2, trained=["slots_in"])
    after = block.ffn(x), block.heads.inward(x), block.heads.outward(x)
    assert all(torch.equal(left, right) for left, right in zip(before, after, strict=True))
    trained = {name for name, value in made.named_parameters() if value.requires_grad}
    assert {name.split(".")[-2] for name in trained} == {"slots_in", "down", "up"}
    matrices = 4 if kind == "dit" else 5
    assert len(trained) == 2 * matrices + 2
    assert names < set(made.state_dict())
