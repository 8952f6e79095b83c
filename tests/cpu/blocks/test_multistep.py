"""Samplers on normal data, whose path and whose best prediction are known in closed form."""

import math

import pytest
import torch

from wmdsl.blocks.edm import descending_levels
from wmdsl.blocks.multistep import adams_bashforth, dpm_solver, on_cosine
from wmdsl.blocks.sampling import descending

MEAN, DEVIATION = 0.7, 0.4
Z = torch.linspace(-2, 2, 9, dtype=torch.float64)
END = MEAN + DEVIATION * Z


def expected(x, alpha, sigma):
    """The mean of the data, given alpha data + sigma noise."""
    share = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2)
    return MEAN + share * (x - alpha * MEAN)


def start(alpha, sigma):
    return alpha * MEAN + math.sqrt((alpha * DEVIATION) ** 2 + sigma**2) * Z


def along_a_flow(steps):
    x, last = start(0, 1), None
    for now, then in descending(steps):
        slope = (x - expected(x, 1 - now, now)) / now
        x, last = adams_bashforth(x, slope, last, now, then)
    return x


def along_the_cosine(steps):
    x, last = start(0, 1), None
    for now, then in descending(steps):
        clean = expected(x, *on_cosine(now))
        x, last = dpm_solver(x, clean, last, on_cosine(now), on_cosine(then))
    return x


def along_levels(steps):
    x, last = start(1, 80), None
    for now, then in descending_levels(steps, 0.002, 80):
        x, last = dpm_solver(x, expected(x, 1, now), last, (1, now), (1, then))
    return x


def euler(steps):
    x = start(0, 1)
    for now, then in descending(steps):
        x = x + (then - now) * (x - expected(x, 1 - now, now)) / now
    return x


def order(sampler, steps):
    """By which power of the steps the error falls."""
    coarse, fine = ((sampler(count) - END).abs().max() for count in (steps, 2 * steps))
    return math.log2(coarse / fine)


@pytest.mark.parametrize("sampler", [along_a_flow, along_levels])
def test_order_two(sampler):
    assert order(sampler, 64) > 1.95


def test_order_two_on_the_cosine_up_to_a_logarithm():
    """Even times make large steps of the log-ratio at both ends, whose share falls slowly."""
    orders = [order(along_the_cosine, steps) for steps in (64, 256, 1024)]
    assert orders == sorted(orders) and orders[-1] > 1.75


def test_euler_is_of_order_one():
    assert 0.8 < order(euler, 64) < 1.2
