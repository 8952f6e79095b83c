"""Log-densities against what is known in closed form, and against sums and Jacobians by hand."""

import math

import pytest
import torch

import wmdsl
from tests.cpu.conftest import PARADIGMS, SPECS, perturbed, random_batch
from tests.cpu.reference.arrangements import acted, binned
from tests.cpu.reference.compare import weights_of
from tests.cpu.reference.mechanisms import masked_logits, scaled
from tests.cpu.reference.paradigms import no_world_model_field
from tests.cpu.reference.pieces import Weights
from wmdsl.diagnostics.problem import SpecError
from wmdsl.plan.named import questions

LINEAR = """edition 2026
model linear {{
  stream state: vector[2] at 10 Hz {{ now 1 step; normalise none }}
  stream action: action[3] at 10 Hz {{ future 2 steps; normalise {normalise} }}
  trunk field: mlp {{ layers 1; width 8; tokens state, action }}
  generate act: action by {objective}
  query policy: action | state {{ steps {steps} }}
}}
"""


def normal(x, deviation):
    law = torch.distributions.Normal(0, deviation)
    return law.log_prob(x).flatten(1).sum(1)


def linear_module(objective, steps=200, normalise="none"):
    """A module whose head is a linear function of each token; its matrix and its offset."""
    text = LINEAR.format(objective=objective, steps=steps, normalise=normalise)
    torch.manual_seed(0)
    module = perturbed(wmdsl.compile(text), 1)
    w = weights_of(module)
    with torch.no_grad():
        w["field.blocks.0.weight"].zero_()
        w["field.blocks.0.bias"].zero_()
        w["field.action_out.weight"].mul_(6)
    inward, outward = w["field.action_in.weight"], w["field.action_out.weight"]
    offset = w["field.action_in.bias"] @ outward.T + w["field.action_out.bias"]
    return module, (outward @ inward).detach(), offset.detach()


def at_noise(matrix, offset, x, duration):
    """Where dx/dt = x matrix^T + offset leads, and the logarithm of the volume's growth."""
    size = len(matrix)
    grown = torch.zeros(size + 1, size + 1, dtype=x.dtype)
    ends = []
    for token in range(x.shape[1]):
        grown[:size, :size], grown[:size, size] = matrix, offset
        moved = torch.matrix_exp(duration * grown)
        ends.append(x[:, token] @ moved[:size, :size].T + moved[:size, size])
    return torch.stack(ends, 1), x.shape[1] * duration * matrix.trace()


@pytest.mark.parametrize("objective, duration", [
    ("flow", 1), ("diffusion { predict v }", math.pi / 2),
])  # fmt: skip
def test_a_linear_flow(objective, duration):
    module, matrix, offset = linear_module(objective)
    batch = random_batch(module, 3)
    end, growth = at_noise(matrix, offset, batch["action"], duration)
    found = module.log_density("policy", batch)["log_density"]
    assert growth.abs() > 0.3
    torch.testing.assert_close(found, normal(end, 1.0) + growth, rtol=1e-4, atol=1e-4)


def test_units_of_the_data():
    module, matrix, offset = linear_module("flow", normalise="zscore")
    batch = random_batch(module, 3)
    w = weights_of(module)
    x = (batch["action"] - w["action_mean"]) / w["action_scale"]
    end, growth = at_noise(matrix, offset, x, 1)
    wanted = normal(end, 1.0) + growth - 2 * w["action_scale"].log().sum()
    found = module.log_density("policy", batch)["log_density"]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_levels_of_normal_data():
    """A head that puts out nothing stands for normal data of the declared deviation."""
    module, _, _ = linear_module("edm")
    with torch.no_grad():
        module.field.action_out.weight.zero_()
        module.field.action_out.bias.zero_()
    batch = random_batch(module, 3)
    found = module.log_density("policy", batch, steps=400)["log_density"]
    torch.testing.assert_close(found, normal(batch["action"], 0.5), rtol=1e-3, atol=1e-2)


def test_random_directions_agree_in_the_mean():
    module, _, _ = linear_module("flow", steps=4)
    batch = {name: x[:1].repeat(4000, 1, 1) for name, x in random_batch(module, 1).items()}
    exact = module.log_density("policy", {n: x[:1] for n, x in batch.items()})["log_density"]
    drawn = module.log_density("policy", batch, torch.Generator().manual_seed(0), probes=1)
    error = drawn["log_density"].std() / math.sqrt(4000)
    assert (drawn["log_density"].mean() - exact).abs() < 4 * error


def test_a_transformer_by_its_jacobian():
    """Midpoint steps by hand, the trace read off the whole Jacobian."""
    module = perturbed(wmdsl.compile(PARADIGMS / "no_world_model.wm"))
    batch = random_batch(module, 1)
    found = module.log_density("policy", batch, steps=2)["log_density"]
    w = weights_of(module)
    _, data, _ = no_world_model_field(w, batch, torch.Generator())
    x, total = 0.99 * scaled(Weights(w), "action", batch["action"]), 0
    for now, then in ((0.01, 0.505), (0.505, 1.0)):
        half, step = (now + then) / 2, then - now
        with torch.no_grad():
            middle = x + (half - now) * (x - data(x, now)) / now
        field = lambda x, at=half: (x - data(x, at)) / at  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(field, middle).reshape(64, 64)
        total = total + step * jacobian.trace()
        x = x + step * field(middle).detach()
    total = total + normal(x, 1.0) + 64 * math.log(0.99) - 16 * w["action_scale"].log().sum()
    torch.testing.assert_close(found, total.detach(), rtol=1e-8, atol=1e-7)


def test_tokens_one_after_the_other(compiled):
    module = compiled(SPECS / "arranged.wm")
    batch, w = random_batch(module, 3), Weights(weights_of(module))
    action = binned(scaled(w, "action", batch["action"]), 16, -2, 2)
    logits = acted(w, batch["word"][:, :2].flatten(1), action)
    wanted = torch.distributions.Categorical(logits=logits).log_prob(action).sum(1)
    found = module.log_density("policy", batch)["log_density"]
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-9, atol=1e-9)


def test_hidden_subsets(compiled):
    module = compiled(SPECS / "masked.wm")
    batch, w = random_batch(module, 3), Weights(weights_of(module))
    index = binned(scaled(w, "action", batch["action"]), 8, -3, 3)
    generator, wanted = torch.Generator().manual_seed(2), 0
    for _ in range(5):
        some = torch.randint(1, 9, (3, 1), generator=generator)
        ranks = torch.rand(3, 8, generator=generator).argsort(1).argsort(1)
        hidden = ranks < some
        laws = torch.distributions.Categorical(
            logits=masked_logits(w, batch, torch.where(hidden, 8, index))
        )
        wanted = wanted + 8 / 5 * (laws.log_prob(index) * hidden).sum(1) / some[:, 0]
    found = module.log_density("policy", batch, torch.Generator().manual_seed(2), steps=5)
    torch.testing.assert_close(found["log_density"], wanted.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("distance, law", [
    ("l1", torch.distributions.Laplace), ("l2", torch.distributions.Normal),
])  # fmt: skip
def test_regression_of_a_declared_scale(distance, law):
    text = LINEAR.format(objective=f"regression {{ distance {distance}; scale 0.2 }}", steps=1,
                         normalise="zscore")  # fmt: skip
    module = perturbed(wmdsl.compile(text))
    batch = random_batch(module, 3)
    mean = module.query("policy", batch)["action"]
    wanted = law(mean, 0.2 * module.action_scale).log_prob(batch["action"]).flatten(1).sum(1)
    found = module.log_density("policy", batch)["log_density"]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", sorted(PARADIGMS.glob("*.wm")), ids=lambda path: path.stem)
def test_every_paradigm_answers_what_the_plan_says(path, compiled):
    module = compiled(path)
    batch = random_batch(module, 1)
    for name in module.answers:
        density = questions(module.plan)[name].density
        if density.answer == "no":
            with pytest.raises(SpecError) as refused:
                module.log_density(name, batch)
            assert density.because in str(refused.value)
        elif name in module.plan.queries:
            more = {"probes": 1} if density.answer == "estimate" else {}
            found = module.log_density(name, batch, torch.Generator().manual_seed(0), 1, **more)
            assert found["log_density"].isfinite().all()


def test_the_weights_are_those_of_the_module():
    module, _, _ = linear_module("flow", steps=4)
    batch = random_batch(module, 2)
    before = module.log_density("policy", batch)["log_density"]
    with torch.no_grad():
        module.field.action_out.bias += 1
    after = module.log_density("policy", batch)["log_density"]
    assert not torch.equal(before, after)
    assert not any("_densities" in name for name in module.state_dict())
