"""The spec `change` by hand: each head's output is added to what was last seen."""

import torch

from tests.cpu.reference.mechanisms import coded, full, mean_square, scaled
from tests.cpu.reference.paradigms import mixed, normal, uniform
from tests.cpu.reference.pieces import Trunk, Weights, linear, patches, places, run, tokens


class Changing:
    """All trunks; every answer is the data, never their change."""

    def __init__(self, table, batch):
        self.w = w = Weights(table)
        self.size = len(batch["scene"])
        scene = 2 * batch["scene"] - 1
        body, action = (scaled(w, name, batch[name]) for name in ("body", "action"))
        self.now, self.future = patches(scene[:, :2], 8), patches(scene[:, 2:], 8)
        self.body_now, self.body_future = body[:, :1], body[:, 1:]
        self.past, self.action = action[:, :2], action[:, 2:]
        touch = scaled(w, "touch", batch["touch"])
        self.touch_now, self.touch_future = touch[:, :2], touch[:, 2:]
        self.zero = torch.zeros(self.size, dtype=torch.float64)

    def seer(self, frames, frames_time, body, body_time):
        own = self.w("seer")
        parts = {"scene_now": self.now, "body_now": self.body_now}
        parts |= {"scene_future": frames, "body_future": body}
        x = [tokens(own(f"{name}_in"), part) for name, part in parts.items()]
        (out,) = run([coded(own, 2, x, [self.zero, self.zero, frames_time, body_time])], full(19))
        shown = linear(own("scene_future_out"), out[:, 9:17])
        last = self.now[:, 4:]
        shown = torch.cat([last + shown[:, :4], last + shown[:, 4:]], 1)
        felt = linear(own("body_future_out"), out[:, 17:])
        return shown, torch.stack([self.body_now[:, 0] + felt[:, at] for at in range(2)], 1)

    def feeler(self):
        own = self.w("feeler")
        parts = [tokens(own("touch_now_in"), self.touch_now)]
        parts += [places(own("touch_future_in"), self.size)]
        (out,) = run([Trunk(own, "vit", 1, torch.cat(parts, 1))], full(5))
        last = self.touch_now[:, -1:].expand(-1, 3, -1)
        return last + linear(own("touch_future_out"), out[:, 2:])

    def doer(self, frames, touch, action, time):
        own = self.w("doer")
        parts = {"scene_future": frames, "touch_future": touch}
        parts |= {"action_past": self.past, "action_future": action}
        x = [tokens(own(f"{name}_in"), part) for name, part in parts.items()]
        (out,) = run([coded(own, 1, x, [self.zero, self.zero, self.zero, time])], full(17))
        return self.past[:, -1:].expand(-1, 4, -1) + linear(own("action_future_out"), out[:, 13:])


def shifted(time):
    return 3 * time / (1 + 2 * time)


def rising(size, generator):
    """0.001 + 0.999 Beta(2, 1)."""
    shapes = torch.tensor([2.0, 1.0], dtype=torch.float64).expand(size, 1, 2)
    gamma = torch._standard_gamma(shapes, generator)
    return (0.001 + 0.999 * gamma[..., 0] / gamma.sum(-1))[:, 0]


def change(table, batch, generator):
    model = Changing(table, batch)
    time, noise = rising(model.size, generator), normal(model.future.shape, generator)
    body_time = uniform(model.size, generator)
    body_noise = normal(model.body_future.shape, generator)
    drawn = shifted(uniform(2 * model.size, generator)).reshape(-1, 2)
    noises = normal((2 * model.size, 4, 3), generator).reshape(-1, 2, 4, 3)
    shown, felt = model.seer(
        mixed(model.future, noise, time), time,
        mixed(model.body_future, body_noise, body_time), body_time,
    )  # fmt: skip
    touched, act = model.feeler(), 0.0
    for draw in range(2):
        noisy = mixed(model.action, noises[:, draw], drawn[:, draw])
        done = model.doer(shown.detach(), touched.detach(), noisy, drawn[:, draw])
        act = act + mean_square(done, model.action) / 2
    terms = {
        "foresee": mean_square(shown, model.future),
        "feel": mean_square(felt, model.body_future),
        "brush": mean_square(touched, model.touch_future),
        "act": act,
    }
    return {"loss": sum(terms.values()), **terms}


def times_of(model, now):
    return torch.full((model.size,), now, dtype=torch.float64)


def foreseen(model, frames, body, steps):
    """Euler's steps along the line to the data that the heads say."""
    for step in range(steps):
        now, then = 1 - step / steps, 1 - (step + 1) / steps
        at = times_of(model, now)
        shown, felt = model.seer(frames, at, body, at)
        frames = shown + then / now * (frames - shown)
        body = felt + then / now * (body - felt)
    return frames, body


def change_policy(table, batch, generator, steps):
    model = Changing(table, batch)
    frames, body = normal((model.size, 8, 192), generator), normal((model.size, 2, 5), generator)
    frames, _ = foreseen(model, frames, body, steps)
    x = normal((model.size, 4, 3), generator)
    for step in range(steps):
        now, then = shifted(1 - step / steps), shifted(1 - (step + 1) / steps)
        done = model.doer(frames, model.feeler(), x, times_of(model, now))
        x = done + then / now * (x - done)
    return x * model.w["action_scale"] + model.w["action_mean"]


def change_felt(table, batch, generator, steps):
    """What the body will be, by Heun's steps."""
    model = Changing(table, batch)
    x = normal((model.size, 8, 192), generator), normal((model.size, 2, 5), generator)

    def slopes(x, now):
        at = times_of(model, now)
        answers = model.seer(x[0], at, x[1], at)
        return [(part - answer) / now for part, answer in zip(x, answers, strict=True)]

    for step in range(steps):
        now, then = 1 - step / steps, 1 - (step + 1) / steps
        here = slopes(x, now)
        ahead = [part + (then - now) * slope for part, slope in zip(x, here, strict=True)]
        there = slopes(ahead, then) if then else here
        x = [
            part + (then - now) * (one + other) / 2
            for part, one, other in zip(x, here, there, strict=True)
        ]
    return x[1] * model.w["body_scale"] + model.w["body_mean"]


LOSSES = {"change": change}
POLICIES = {"change": change_policy}
