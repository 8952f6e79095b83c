"""Samplers written by hand over a network written by hand, in float64."""

import math

import pytest
import torch

import wmdsl
from tests.cpu.conftest import PARADIGMS, perturbed, random_batch
from tests.cpu.reference.compare import assert_same_policy
from tests.cpu.reference.paradigms import no_world_model_field, normal

SPEC = """edition 2026
import "{path}" as base
model solved extends base.no_world_model {{
  override generate act: action by {objective}
  override query policy {{ sampler {sampler} }}
}}
"""


def heun(x, slope, times):
    """Trapezoids; the step that ends in clean data is Euler's."""
    for now, then in zip(times, times[1:], strict=False):
        here = slope(x, now)
        ahead = slope(x + (then - now) * here, then) if then else here
        x = x + (then - now) * (here + ahead) / 2
    return x


def heun_on_data(table, batch, generator, steps):
    noise, data, raw = no_world_model_field(table, batch, generator)
    times = [1 - step / steps for step in range(steps + 1)]
    return raw(heun(noise, lambda x, t: (x - data(x, t)) / t, times))


def heun_on_velocity(table, batch, generator, steps):
    noise, velocity, raw = no_world_model_field(table, batch, generator)
    return raw(heun(noise, velocity, [1 - step / steps for step in range(steps + 1)]))


def heun_on_levels(table, batch, generator, steps):
    """Algorithm 1 of EDM without churn, from 0.002 to 80, deviation of the data 0.5."""
    noise, network, raw = no_world_model_field(table, batch, generator)

    def slope(x, level):
        total = 0.25 + level**2
        output = network(x / math.sqrt(total), level / (1 + level))
        clean = 0.25 / total * x + 0.5 * level / math.sqrt(total) * output
        return (x - clean) / level

    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    levels = [(high + (low - high) * step / (steps - 1)) ** 7 for step in range(steps)]
    return raw(heun(80 * noise, slope, [*levels, 0.0]))


def adams_bashforth(x, slope, times):
    """The slope goes on as between its last two values; the first step is Euler's."""
    before = None
    for now, then in zip(times, times[1:], strict=False):
        here, step = slope(x, now), then - now
        x = x + step * here
        if before is not None:
            x = x + step**2 / 2 * (here - before[0]) / (now - before[1])
        before = here, now
    return x


def bashforth_on_data(table, batch, generator, steps):
    noise, data, raw = no_world_model_field(table, batch, generator)
    times = [1 - step / steps for step in range(steps + 1)]
    return raw(adams_bashforth(noise, lambda x, t: (x - data(x, t)) / t, times))


def bashforth_on_velocity(table, batch, generator, steps):
    """The steps are uneven: a shift of 3 moves all times towards noise."""
    noise, velocity, raw = no_world_model_field(table, batch, generator)
    even = [1 - step / steps for step in range(steps + 1)]
    return raw(adams_bashforth(noise, velocity, [3 * t / (1 + 2 * t) for t in even]))


def dpm_solver(x, data, points):
    """Algorithm 2 of DPM-Solver++; `points` are (alpha, sigma, log of their ratio, argument)."""
    before = None
    for (_, s, here, at), (b, r, there, _) in zip(points, points[1:], strict=False):
        guess = estimate = data(x, at)
        if before is not None and r:
            ratio = (here - before[1]) / (there - here)
            guess = (1 + 1 / (2 * ratio)) * estimate - 1 / (2 * ratio) * before[0]
        x = r / s * x - b * (math.exp(here - there) - 1) * guess if r else guess
        before = estimate, here
    return x


def solver_on_cosine(output_to_data):
    def policy(table, batch, generator, steps):
        x, output, raw = no_world_model_field(table, batch, generator)
        points = []
        for step in range(steps + 1):
            angle = math.pi / 2 * (1 - step / steps)
            a, s = (0.0, 1.0) if step == 0 else (math.cos(angle), math.sin(angle))
            ratio = -math.inf if a == 0 else math.log(a / s) if step < steps else math.inf
            points.append((a, s if step < steps else 0.0, ratio, 1 - step / steps))

        def data(x, time):
            angle = math.pi / 2 * time
            return output_to_data(x, output(x, time), math.cos(angle), math.sin(angle))

        return raw(dpm_solver(x, data, points))

    return policy


def solver_on_levels(table, batch, generator, steps):
    noise, network, raw = no_world_model_field(table, batch, generator)

    def data(x, level):
        total = 0.25 + level**2
        output = network(x / math.sqrt(total), level / (1 + level))
        return 0.25 / total * x + 0.5 * level / math.sqrt(total) * output

    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    levels = [(high + (low - high) * step / (steps - 1)) ** 7 for step in range(steps)]
    points = [(1.0, level, -math.log(level), level) for level in levels]
    return raw(dpm_solver(80 * noise, data, [*points, (1.0, 0.0, math.inf, 0.0)]))


def ancestral(table, batch, generator, steps):
    """The posterior of DDPM between two points of the cosine path."""
    x, data, raw = no_world_model_field(table, batch, generator)
    for step in range(steps):
        now, then = (math.pi / 2 * (1 - at / steps) for at in (step, step + 1))
        clean = data(x, 1 - step / steps)
        (a, s), (b, r) = ((math.cos(at), math.sin(at)) for at in (now, then))
        fresh = normal(x.shape, generator)
        ratio = a / b
        beta = 1 - ratio**2
        mean = ratio * r**2 / s**2 * x + b * beta / s**2 * clean
        x = mean + math.sqrt(max(beta, 0)) * r / s * fresh
    return raw(x)


CASES = {
    "data": ("flow { predict data }", "heun", heun_on_data),
    "velocity": ("flow { predict velocity }", "heun", heun_on_velocity),
    "levels": ("edm", "heun", heun_on_levels),
    "bashforth data": ("flow { predict data }", "multistep", bashforth_on_data),
    "bashforth": ("flow { predict velocity; shift 3 }", "multistep", bashforth_on_velocity),
    "solver x0": ("diffusion { predict x0 }", "multistep", solver_on_cosine(lambda x, d, a, s: d)),
    "solver v": ("diffusion { predict v }", "multistep",
                 solver_on_cosine(lambda x, v, a, s: a * x - s * v)),
    "solver levels": ("edm", "multistep", solver_on_levels),
    "ancestral": ("diffusion { predict x0 }", "ancestral", ancestral),
}


@pytest.mark.parametrize("name", CASES)
def test_sampler(name, tmp_path):
    objective, sampler, reference = CASES[name]
    path = PARADIGMS / "no_world_model.wm"
    spec = tmp_path / "solved.wm"
    spec.write_text(SPEC.format(path=path, objective=objective, sampler=sampler))
    torch.manual_seed(0)
    module = perturbed(wmdsl.compile(spec))
    assert_same_policy(module, reference, random_batch(module, 2), steps=4)
