"""Log-densities in nats. B batch, T tokens, C features, V vocabulary."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from wmdsl.blocks.edm import descending_levels


def ascending(steps: int, start: float) -> list[tuple[float, float]]:
    """(now, then) of equal steps from `start` (data) to 1 (noise)."""
    times = [start + (1 - start) * step / steps for step in range(steps + 1)]
    return list(zip(times, times[1:], strict=False))


def ascending_levels(steps: int, low: float, high: float) -> list[tuple[float, float]]:
    """(now, then) from the level `low` to `high`, even in the seventh root."""
    path = descending_levels(steps, low, high, low)
    return [(then, now) for now, then in reversed(path)]


def divergence(
    fields: list[Tensor], points: list[Tensor], probes: int | None, generator: Generator | None
) -> Tensor:
    """The trace of d fields / d points of each sample [B].

    Exact, with a backward pass for each number, where `probes` is None; else the mean over so many
    random signs (Hutchinson's estimate).
    """
    if probes is None:
        return sum(exact_trace(*pair) for pair in zip(fields, points, strict=True))
    total = 0
    for _ in range(probes):
        signs = [random_signs(field, generator) for field in fields]
        pulled = torch.autograd.grad(fields, points, signs, retain_graph=True)
        pairs = zip(pulled, signs, strict=True)
        total = total + sum((back * sign).flatten(1).sum(dim=1) for back, sign in pairs)
    return total / probes


def random_signs(like: Tensor, generator: Generator | None) -> Tensor:
    """-1 or 1 with equal chances."""
    draw = torch.randint(0, 2, like.shape, generator=generator, device=like.device)
    return (2 * draw - 1).to(like.dtype)


def exact_trace(field: Tensor, point: Tensor) -> Tensor:
    """The sum of d field / d point over all numbers of each sample [B]."""
    total = field.new_zeros(len(field))
    for number in range(field[0].numel()):
        chosen = torch.zeros_like(field).flatten(1)
        chosen[:, number] = 1
        (back,) = torch.autograd.grad(field, point, chosen.view_as(field), retain_graph=True)
        total = total + back.flatten(1)[:, number]
    return total


def normal_log_density(x: Tensor, deviation: float | Tensor) -> Tensor:
    """That of a sample [B, ...] whose numbers are independent around 0: [B]."""
    deviation = torch.as_tensor(deviation, dtype=x.dtype, device=x.device)
    each = -0.5 * (x / deviation) ** 2 - deviation.log() - 0.5 * math.log(2 * math.pi)
    return each.flatten(1).sum(dim=1)


def laplace_log_density(x: Tensor, width: float) -> Tensor:
    """That of a sample [B, ...] whose numbers are independent around 0: [B]."""
    return (-x.abs() / width - math.log(2 * width)).flatten(1).sum(dim=1)


def rescaled(log_density: Tensor, numbers: int, factor: float) -> Tensor:
    """The log-density of data, from that of their `numbers` numbers times `factor`."""
    return log_density + numbers * math.log(factor)


def log_probability(logits_BTV: Tensor, index_BT: Tensor) -> Tensor:
    """The sum over all tokens [B]."""
    each = logits_BTV.log_softmax(dim=-1).gather(2, index_BT[..., None])[..., 0]
    return each.sum(dim=1)


def subset(index_BT: Tensor, generator: Generator | None) -> Tensor:
    """A random subset of the tokens of each sample [B, T]; every size from 1 to T is as likely."""
    size, count = index_BT.shape
    some = torch.randint(1, count + 1, (size, 1), generator=generator, device=index_BT.device)
    order = torch.rand(size, count, generator=generator, device=index_BT.device).argsort(dim=1)
    return order.argsort(dim=1) < some


def subset_bound(logits_BTV: Tensor, index_BT: Tensor, hidden_BT: Tensor) -> Tensor:
    """T times the mean over the hidden tokens [B].

    Its mean over subsets is the mean, over all orders, of the log-probability of the tokens drawn
    one by one: a lower bound of the log-probability of a mixture of all orders.
    """
    each = logits_BTV.log_softmax(dim=-1).gather(2, index_BT[..., None])[..., 0]
    chosen = (each * hidden_BT).sum(dim=1) / hidden_BT.sum(dim=1)
    return index_BT.shape[1] * chosen
