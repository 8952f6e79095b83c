"""Specs of trunks and couplings written by hand: losses from weights and a batch."""

import torch

from tests.cpu.reference.mechanisms import coded, mean_square, scaled
from tests.cpu.reference.paradigms import mixed, normal, uniform
from tests.cpu.reference.pieces import (
    Weights,
    gelu_tanh,
    linear,
    patches,
    reader,
    run,
    text,
    tokens,
    visible,
)


def embedded(w, x):
    return linear(w("2"), gelu_tanh(linear(w("0"), x)))


class Modulated:
    """Seer and doer of the modulation spec for given noisy tokens."""

    def __init__(self, table, batch):
        self.w = w = Weights(table)
        self.now = patches(2 * batch["scene"][:, :1] - 1, 8)
        self.words = text(w("words"), batch["text"], 1)
        self.state = scaled(w, "state", batch["state"])

    def heard(self, trunk):
        w = self.w(f"hear_{trunk}_embed")
        return torch.cat([embedded(w("0"), self.words), embedded(w("1"), self.state)], 1)

    def trunk(self, name, parts, times):
        reads = [reader(self.w(f"hear_{name}"), self.heard(name), 2, 2, {0, 1, 2})]
        if name == "doer":
            last = embedded(self.w("last_embed"), self.words)
            reads.append(reader(self.w("last"), last, 2, 2, {2}))
        return coded(self.w(name), 2, parts, times, reads=reads)

    def seer(self, parts, times):
        own = self.w("seer")
        named = zip(("now", "future"), parts, strict=False)
        parts = [tokens(own(f"scene_{name}_in"), x) for name, x in named]
        return self.trunk("seer", parts, times)

    def doer(self, action, time):
        return self.trunk("doer", [tokens(self.w("doer.action_in"), action)], [time])

    def action(self, action, time):
        """What the policy's head puts out; the future frames are gone."""
        zero = torch.zeros_like(time)
        trunks = [self.seer([self.now], [zero]), self.doer(action, time)]
        rows = {"now": ["now"], "action": ["now", "action"]}
        _, out = run(trunks, visible({"now": 4, "action": 4}, rows))
        return linear(self.w("doer.action_out"), out)


def modulation(table, batch, generator):
    model, size = Modulated(table, batch), len(batch["scene"])
    future = patches(2 * batch["scene"][:, 1:] - 1, 8)
    action = scaled(model.w, "action", batch["action"])
    later = uniform(size, generator)
    video_noise = normal(future.shape, generator)
    time = uniform(size, generator)
    noise = normal(action.shape, generator)
    noisy = mixed(future, video_noise, later)
    trunks = [
        model.seer([model.now, noisy], [torch.zeros_like(time), later]),
        model.doer(mixed(action, noise, time), time),
    ]
    rows = {"now": ["now"], "future": ["now", "future"], "action": ["now", "action"]}
    seen, done = run(trunks, visible({"now": 4, "future": 8, "action": 4}, rows))
    output = linear(model.w("seer.scene_future_out"), seen[:, 4:])
    foresight = mean_square(output, video_noise - future)
    act = mean_square(linear(model.w("doer.action_out"), done), noise - action)
    return {"loss": foresight + act, "foresight": foresight, "act": act}


def flown(velocity, x, steps):
    """Euler from noise to data; the velocity is a function of tokens and times [B]."""
    for step in range(steps):
        now, then = 1 - step / steps, 1 - (step + 1) / steps
        x = x + (then - now) * velocity(x, torch.full(x.shape[:1], now, dtype=x.dtype))
    return x


def modulation_policy(table, batch, generator, steps):
    model = Modulated(table, batch)
    x = flown(model.action, normal((len(batch["scene"]), 4, 3), generator), steps)
    return x * model.w["action_scale"] + model.w["action_mean"]


LOSSES = {"modulation": modulation}
POLICIES = {"modulation": modulation_policy}
