"""Objectives with noise levels and weights over time, written by hand from a batch and weights."""

import math

import torch

from tests.cpu.reference.paradigms import mixed, normal, uniform
from tests.cpu.reference.pieces import (
    Trunk,
    Weights,
    linear,
    masked_mean,
    reader,
    run,
    spread,
    time_code,
    tokens,
)


def scaled(w, name, x):
    return (x - w[f"{name}_mean"]) / w[f"{name}_scale"]


def trunk(w, parts, times, **more):
    code = time_code(w("time"), spread(times, [x.shape[1] for x in parts]))
    return Trunk(w, "dit", 2, torch.cat(parts, 1), code, **more)


def every(trunks):
    count = sum(one.x.shape[1] for one in trunks)
    return torch.ones(count, count, dtype=torch.bool)


def weighted_mean(weight, error):
    """Squared errors [B, T, C] under weights [B] or [B, T]."""
    weight = weight[:, None] if weight.ndim == 1 else weight
    return masked_mean(weight[..., None] * error, torch.ones(error.shape[:2], dtype=torch.bool))


class Levels:
    """The trunks of `edm.wm` behind the preconditioning of Karras et al.: D(x, level)."""

    def __init__(self, table, batch):
        self.w = Weights(table)
        self.state = scaled(self.w, "state", batch["state"])
        self.zero = torch.zeros(len(self.state), dtype=torch.float64)

    def seen(self, x, level, layers=None):
        """Raw outputs of the seer for a noisy scene, level by token, and its states."""
        own = self.w("seer")
        level = level if level.ndim == 2 else level[:, None].expand(-1, 2)
        reading = x / torch.sqrt(1 + level[..., None] ** 2)
        parts = [tokens(own("state_in"), self.state), tokens(own("scene_in"), reading)]
        seer = trunk(own, parts, [self.zero, level / (1 + level)])
        (out,) = run([seer], every([seer]), layers)
        return linear(own("scene_out"), out[:, 2:]), seer.after

    def scene(self, x, level):
        raw, _ = self.seen(x, level)
        level = (level if level.ndim == 2 else level[:, None].expand(-1, 2))[..., None]
        return x / (1 + level**2) + level / torch.sqrt(1 + level**2) * raw

    def action(self, x, level, seen):
        own, at = self.w("doer"), level[:, None, None]
        part = tokens(own("action_in"), x / torch.sqrt(0.25 + at**2))
        reads = [reader(self.w("watch"), seen, 2, 2, {0, 1})]
        doer = trunk(own, [part], [level / (1 + level)], reads=reads)
        (out,) = run([doer], every([doer]))
        raw = linear(own("action_out"), out)
        return 0.25 * x / (0.25 + at**2) + 0.5 * at / torch.sqrt(0.25 + at**2) * raw


def edm(table, batch, generator):
    model, size = Levels(table, batch), len(batch["state"])
    draw = torch.randn(size, 2, generator=generator, dtype=torch.float64)
    low = torch.exp(0.5 + draw)
    high = 1 + 8 * torch.rand(size, 2, generator=generator, dtype=torch.float64)
    coin = torch.rand(size, 2, generator=generator, dtype=torch.float64)
    level = 2 * torch.where(coin < 0.7, low, high)
    scene = scaled(model.w, "scene", batch["scene"])
    noisy = scene + level[..., None] * normal(scene.shape, generator)
    u = uniform(size, generator).clamp(1e-6, 1 - 1e-6)
    act_level = torch.exp(-0.69 + 0.5 * torch.log(u / (1 - u)))
    action = scaled(model.w, "action", batch["action"])
    action_noisy = action + act_level[:, None, None] * normal(action.shape, generator)
    half = scene + normal(scene.shape, generator)
    one = torch.ones(size, dtype=torch.float64)
    _, after = model.seen(half, one, layers=1)
    weight = (level**2 + 1) / level**2
    foresight = weighted_mean(weight, (model.scene(noisy, level) - scene) ** 2)
    weight = (act_level**2 + 0.25) / (0.5 * act_level) ** 2
    done = model.action(action_noisy, act_level, after[1].detach())
    act = weighted_mean(weight, (done - action) ** 2)
    return {"loss": 0.5 * foresight + act, "foresight": foresight, "act": act}


def ladder(high, low, count):
    """Levels even in the seventh root."""
    root = [high ** (1 / 7), low ** (1 / 7)]
    return [(root[0] + (root[1] - root[0]) * i / (count - 1)) ** 7 for i in range(count)]


def edm_policy(table, batch, generator, steps):
    """Denoise the scene down to level 1, where the tap reads it, then the action."""
    model, size = Levels(table, batch), len(batch["state"])
    at = lambda level: torch.full((size,), level, dtype=torch.float64)  # noqa: E731
    x = 40 * normal((size, 2, 4), generator)
    levels = ladder(40, 1, steps + 1)
    for now, then in zip(levels, levels[1:], strict=False):
        x = x + (then - now) * (x - model.scene(x, at(now))) / now
    _, after = model.seen(x, at(1.0), layers=1)
    action = 80 * normal((size, 4, 2), generator)
    levels = [*ladder(80, 0.002, steps), 0.0]
    for now, then in zip(levels, levels[1:], strict=False):
        action = action + (then - now) * (action - model.action(action, at(now), after[1])) / now
    return action * model.w["action_scale"] + model.w["action_mean"]


def bell(time):
    """exp(-2 (t - 1/2)^2), moved down to 0 at the ends, over its mean by the midpoint rule."""
    curve = lambda t: torch.exp(-2 * (t - 0.5) ** 2) - math.exp(-0.5)  # noqa: E731
    grid = (torch.arange(200000, dtype=torch.float64) + 0.5) / 200000
    return curve(time) / curve(grid).mean()


def weighted(table, batch, generator):
    w, size = Weights(table), len(batch["left"])
    own, zero = w("policy"), torch.zeros(size, dtype=torch.float64)
    left, right, action = (scaled(w, n, batch[n]) for n in ("left", "right", "action"))
    now, ahead = left[:, :1], left[:, 1:]
    ahead_time = torch.rand(size, 3, generator=generator, dtype=torch.float64)
    turn = math.pi / 2 * ahead_time[..., None]
    noisy = torch.cos(turn) * ahead + torch.sin(turn) * normal(ahead.shape, generator)
    level = torch.exp(
        -1.2 + 1.2 * torch.randn(size, 1, generator=generator, dtype=torch.float64)[:, 0]
    )
    at = level[:, None, None]
    x = right + at * normal(right.shape, generator)
    time = uniform(size, generator)
    time = 3 * time / (1 + 2 * time)
    noise = normal(action.shape, generator)
    parts = [
        tokens(own("left_now_in"), now),
        tokens(own("left_future_in"), noisy),
        tokens(own("right_in"), x / torch.sqrt(0.25 + at**2)),
        tokens(own("action_in"), mixed(action, noise, time)),
    ]
    one = trunk(own, parts, [zero, ahead_time, level / (1 + level), time])
    (out,) = run([one], every([one]))
    raw = linear(own("right_out"), out[:, 4:6])
    clean = 0.25 * x / (0.25 + at**2) + 0.5 * at / torch.sqrt(0.25 + at**2) * raw
    first = weighted_mean(
        bell(ahead_time), (linear(own("left_future_out"), out[:, 1:4]) - ahead) ** 2
    )
    second = weighted_mean(bell(level / (1 + level)), (clean - right) ** 2)
    velocity = linear(own("action_out"), out[:, 6:])
    act = weighted_mean(bell(time), (velocity - (noise - action)) ** 2)
    total = first + 0.3 * second + act
    return {"loss": total, "ahead": first, "aside": second, "act": act}
