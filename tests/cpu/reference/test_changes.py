"""What a change is beyond the spec's loss and policy, which `test_mechanisms` compares."""

import torch

import wmdsl
from tests.cpu.conftest import SPECS, perturbed, random_batch
from tests.cpu.reference.changes import change_felt
from tests.cpu.reference.compare import weights_of

HEUN = """edition 2026
import "{path}" as base
model solved extends base.change {{ override query imagine {{ sampler heun }} }}
"""


def test_steps_of_second_order(tmp_path):
    spec = tmp_path / "heun.wm"
    spec.write_text(HEUN.format(path=SPECS / "change.wm"))
    torch.manual_seed(0)
    module = perturbed(wmdsl.compile(spec))
    batch = random_batch(module, 3)
    found = module.query("imagine", batch, torch.Generator().manual_seed(3), steps=3)["body"]
    with torch.no_grad():
        drawn = torch.Generator().manual_seed(3)
        wanted = change_felt(weights_of(module), batch, drawn, 3)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)


def test_an_untrained_change_is_none():
    torch.manual_seed(0)
    module = wmdsl.compile(SPECS / "change.wm").double()
    batch = random_batch(module, 2)
    found = module.query("imagine", batch)
    frozen = batch["scene"][:, 1:2].expand(-1, 2, -1, -1, -1)
    torch.testing.assert_close(found["scene"], frozen)
    torch.testing.assert_close(found["body"], batch["body"][:, :1].expand(-1, 2, -1))
