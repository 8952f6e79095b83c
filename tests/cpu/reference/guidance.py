"""Dropped conditions and classifier-free guidance, one pass for each answer."""

import torch

from tests.cpu.reference.levels import scaled, weighted_mean
from tests.cpu.reference.paradigms import mixed, normal, uniform
from tests.cpu.reference.pieces import (
    Trunk,
    Weights,
    linear,
    places,
    reader,
    run,
    spread,
    text,
    time_code,
    tokens,
    visible,
)


class Guided:
    """The trunks of `guided.wm` for a given state, which may be nothing."""

    def __init__(self, table, batch, state):
        self.w = Weights(table)
        self.state = state
        self.words = text(self.w("words"), batch["text"], 1)
        self.zero = torch.zeros(len(state), dtype=torch.float64)

    def policy(self, parts, times):
        """Outputs by stream of the noisy tokens, each seeing itself and the state."""
        own = self.w("policy")
        x = [tokens(own("state_in"), self.state)]
        x += [tokens(own(f"{name}_in"), part) for name, part in parts.items()]
        clock = spread([self.zero, *times.values()], [part.shape[1] for part in x])
        reads = [reader(self.w("hear"), self.words, 2, 2, {0, 1})]
        trunk = Trunk(own, "dit", 2, torch.cat(x, 1), time_code(own("time"), clock), reads=reads)
        counts = {"state": 1, **{name: part.shape[1] for name, part in parts.items()}}
        rows = {name: ["state", name] for name in counts}
        (out,) = run([trunk], visible(counts, rows))
        hidden = zip(parts, out[:, 1:].split(list(counts.values())[1:], 1), strict=True)
        return {name: linear(own(f"{name}_out"), part) for name, part in hidden}

    def judge(self):
        own = self.w("judge")
        code = time_code(own("time"), self.zero[:, None])
        reads = [reader(self.w("weigh"), self.words, 2, 2, {0})]
        trunk = Trunk(own, "dit", 2, places(own("reward_in"), len(self.state)), code, reads=reads)
        (out,) = run([trunk], torch.ones(1, 1, dtype=torch.bool))
        return linear(own("reward_out"), out)


def guided(table, batch, generator):
    w, size = Weights(table), len(batch["state"])
    state = scaled(w, "state", batch["state"])
    kept = torch.rand(size, generator=generator) >= 0.5
    state = torch.stack([x if keep else 0 * x for x, keep in zip(state, kept, strict=True)])
    model = Guided(table, batch, state)
    scene, action = scaled(w, "scene", batch["scene"]), scaled(w, "action", batch["action"])
    level = torch.exp(
        -1.2 + 1.2 * torch.randn(size, 1, generator=generator, dtype=torch.float64)[:, 0]
    )
    at = level[:, None, None]
    x = scene + at * normal(scene.shape, generator)
    time = uniform(size, generator)
    noise = normal(action.shape, generator)
    parts = {"scene": x / torch.sqrt(0.25 + at**2), "action": mixed(action, noise, time)}
    out = model.policy(parts, {"scene": level / (1 + level), "action": time})
    clean = 0.25 * x / (0.25 + at**2) + 0.5 * at / torch.sqrt(0.25 + at**2) * out["scene"]
    one = torch.ones(size, dtype=torch.float64)
    ahead = weighted_mean(one, (clean - scene) ** 2)
    act = weighted_mean(one, (out["action"] - (noise - action)) ** 2)
    reward = scaled(w, "reward", batch["reward"])
    worth = weighted_mean(one, (model.judge() - reward).abs())
    return {"loss": 0.5 * ahead + act + worth, "ahead": ahead, "act": act, "worth": worth}


def guided_policy(table, batch, generator, steps):
    state = scaled(Weights(table), "state", batch["state"])
    full, without = (Guided(table, batch, x) for x in (state, 0 * state))
    action = normal((len(state), 4, 2), generator)
    for step in range(steps):
        time = torch.full((len(state),), 1 - step / steps, dtype=torch.float64)
        asked, plain = (
            model.policy({"action": action}, {"action": time})["action"]
            for model in (full, without)
        )
        action = action - (3 * asked - 2 * plain) / steps
    return action * full.w["action_scale"] + full.w["action_mean"]
