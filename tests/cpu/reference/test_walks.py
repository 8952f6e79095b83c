"""Streams denoised together in steps of their own, or not to the end, by hand in float64."""

import pytest
import torch

import wmdsl
from tests.cpu.conftest import PARADIGMS, perturbed, random_batch
from tests.cpu.reference.compare import weights_of
from tests.cpu.reference.paradigms import joint_field

SPEC = """edition 2026
import "{path}" as base
model walked extends base.mot {{
  override generate foresight: corner.future by flow {{ {flow} }}
  override query joint {{ {how} }}
}}
"""
TRUNKS = {"seer": ("instruction", "corner", "wrist", "future"), "doer": ("proprio", "action")}


def moved(time, shift):
    return shift * time / (1 + (shift - 1) * time)


def walk(field, plan, stop, shift=1):
    """`plan` says of each evaluation what moves in it; video stops at the level `stop`, which its
    shifted times reach."""
    x, output, raw = field
    end = stop / (shift - (shift - 1) * stop)
    counts = {name: sum(name in entry for entry in plan) for name in ("action", "future")}
    done = dict.fromkeys(counts, 0)
    level = {
        "action": lambda step: 1 - step / counts["action"],
        "future": lambda step: moved(1 - (1 - end) * step / counts["future"], shift),
    }
    for entry in plan:
        times = {name: level[name](done[name]) for name in done}
        data = output(x, times)
        for name in entry:
            then = level[name](done[name] + 1)
            x[name] = x[name] + (then - times[name]) * (x[name] - data[name]) / times[name]
            done[name] += 1
    return raw(x)


BOTH, ACTION = ("action", "future"), ("action",)
CASES = {
    "half as many": ("steps action 4, corner 2", "predict data", [BOTH, ACTION, BOTH, ACTION], {}),
    "two of three": ("steps action 3, corner 2", "predict data", [BOTH, ACTION, BOTH], {}),
    "left noisy": ("steps 3; terminal corner 0.4", "predict data", [BOTH] * 3, {"stop": 0.4}),
    "both, shifted": ("steps action 4, corner 2; terminal corner 0.25", "predict data; shift 3",
                      [BOTH, ACTION, BOTH, ACTION], {"stop": 0.25, "shift": 3}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_walks(name, tmp_path):
    how, flow, plan, more = CASES[name]
    spec = tmp_path / "walked.wm"
    spec.write_text(SPEC.format(path=PARADIGMS / "mot.wm", how=how, flow=flow))
    torch.manual_seed(0)
    module = perturbed(wmdsl.compile(spec))
    batch = random_batch(module, 2)
    found = module.query("joint", batch, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    field = joint_field(weights_of(module), batch, generator, TRUNKS)
    with torch.no_grad():
        wanted = walk(field, plan, **{"stop": 0, **more})
    if not more:
        wanted["corner"] = wanted["corner"].clamp(0, 1)
    for stream, value in wanted.items():
        torch.testing.assert_close(found[stream], value, rtol=1e-8, atol=1e-9)


def test_the_naive_program_walks_alike(tmp_path):
    spec = tmp_path / "walked.wm"
    how = "steps action 5, corner 2; sampler multistep; terminal corner 0.3"
    spec.write_text(SPEC.format(path=PARADIGMS / "mot.wm", how=how, flow="predict data"))
    torch.manual_seed(0)
    module = perturbed(wmdsl.compile(spec))
    naive = wmdsl.compile(spec, naive=True).double()
    naive.load_state_dict(module.state_dict())
    batch = random_batch(module, 2)
    ours, theirs = (
        one.query("joint", batch, torch.Generator().manual_seed(3)) for one in (module, naive)
    )
    for stream, value in theirs.items():
        torch.testing.assert_close(ours[stream], value, rtol=1e-8, atol=1e-9)
