"""Specs of trunks and couplings written by hand: losses from weights and a batch."""

import math

import torch

from tests.cpu.reference.mechanisms import coded, full, mean_square, path, scaled
from tests.cpu.reference.paradigms import mixed, normal, uniform
from tests.cpu.reference.pieces import (
    Trunk,
    Weights,
    gelu_tanh,
    line_angles,
    linear,
    patches,
    places,
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


def sinusoids(time):
    """Times [B] -> [B, 1, 256]."""
    rates = [1000 * math.exp(-math.log(10000) * k / 128) for k in range(128)]
    angles = time[:, None, None] * torch.tensor(rates, dtype=time.dtype)
    return torch.cat([torch.cos(angles), torch.sin(angles)], -1)


class Beside:
    """The trunks of the spec `beside` for given noisy tokens."""

    def __init__(self, table, batch):
        self.w = w = Weights(table)
        self.size = len(batch["scene"])
        self.now = patches(2 * batch["scene"][:, :1] - 1, 8)
        self.body = scaled(w, "body", batch["body"])
        own = w("thinker")
        learned = [places(own(f"{name}_in"), self.size) for name in ("hints", "goal")]
        x = torch.cat([tokens(own("scene_now_in"), self.now), *learned], 1)
        thinker = Trunk(own, "vit", 2, x)
        (self.thought,) = run([thinker], full(10))
        self.early = thinker.after[1]

    def seer(self, future):
        """The velocity that the head tells of noisy frames."""
        w, own = self.w, self.w("seer")
        frames = tokens(own("scene_future_in"), future)
        frames = frames + linear(w("first"), torch.cat([self.now, self.now], 1))
        each = linear(w("frame"), self.body)
        frames = frames + torch.stack([each[:, token // 4] for token in range(8)], 1)
        slots = places(own("slots_in"), self.size) + linear(w("more"), self.early[:, :4])
        still = torch.zeros(self.size, dtype=torch.float64)
        trunk = coded(own, 2, [frames, slots], [still, still])
        (out,) = run([trunk], full(12))
        return linear(own("scene_future_out"), out[:, :8])

    def actor(self, action, time):
        """The data that the head tells of noisy actions; what stands in front sees its own."""
        w, own = self.w, self.w("actor")
        parts = {
            "clock": linear(w("clock"), sinusoids(time)),
            "plan": linear(w("plan_condition"), self.thought[:, 7:]),
            "look": linear(w("look"), self.now),
            "action": linear(own("action_in"), action),
        }
        rows = {name: [name] for name in parts} | {"action": list(parts)}
        mask = visible({name: x.shape[1] for name, x in parts.items()}, rows)
        x = torch.cat(list(parts.values()), 1)
        (out,) = run([Trunk(own, "vit", 2, x, angles=line_angles(12, 16))], mask)
        return linear(own("action_out"), out[:, 8:])


def beside(table, batch, generator):
    model = Beside(table, batch)
    future = patches(2 * batch["scene"][:, 1:] - 1, 8)
    action = scaled(model.w, "action", batch["action"])
    later = uniform(model.size, generator)
    video_noise = normal(future.shape, generator)
    time = uniform(model.size, generator)
    noise = normal(action.shape, generator)
    foresight = mean_square(model.seer(mixed(future, video_noise, later)), video_noise - future)
    act = mean_square(model.actor(path(action, noise, time), time), action)
    return {"loss": foresight + act, "foresight": foresight, "act": act}


def beside_policy(table, batch, generator, steps):
    """DDIM by the predicted data."""
    model = Beside(table, batch)
    x = normal((model.size, 4, 3), generator)
    for step in range(steps):
        now, then = 1 - step / steps, 1 - (step + 1) / steps
        clean = model.actor(x, torch.full((model.size,), now, dtype=torch.float64))
        cos, sin = math.cos(math.pi / 2 * now), math.sin(math.pi / 2 * now)
        noise = (x - cos * clean) / sin
        x = math.cos(math.pi / 2 * then) * clean + math.sin(math.pi / 2 * then) * noise
    return x * model.w["action_scale"] + model.w["action_mean"]


LOSSES = {"modulation": modulation, "beside": beside}
POLICIES = {"modulation": modulation_policy, "beside": beside_policy}
