"""The specs of `tests/cpu/emit/specs` written by hand: losses from weights and a batch."""

import math

import torch
from torch.nn import functional

from tests.cpu.reference.guidance import guided, guided_policy
from tests.cpu.reference.indices import indices
from tests.cpu.reference.levels import edm, edm_policy, weighted
from tests.cpu.reference.paradigms import mixed, normal, uniform
from tests.cpu.reference.pieces import (
    Trunk,
    Weights,
    causal,
    conv_grid,
    conv_keypoints,
    gelu,
    line_angles,
    linear,
    masked_mean,
    patches,
    places,
    reader,
    run,
    spread,
    symbols,
    text,
    time_code,
    tokens,
    visible,
)
from tests.cpu.reference.pretrained import pretrained


def scaled(w, name, x):
    return (x - w[f"{name}_mean"]) / w[f"{name}_scale"]


def everything(x):
    return torch.ones(x.shape[:2], dtype=torch.bool)


def full(count):
    return torch.ones(count, count, dtype=torch.bool)


def coded(w, heads, parts, times, **more):
    """A trunk of a diffusion transformer; `times` by part, [B] or per token."""
    code = time_code(w("time"), spread(times, [x.shape[1] for x in parts]))
    return Trunk(w, "dit", heads, torch.cat(parts, 1), code, **more)


def mean_square(output, wanted):
    return masked_mean((output - wanted) ** 2, everything(wanted))


def path(clean, noise, time):
    at = math.pi / 2 * time[:, None, None]
    return torch.cos(at) * clean + torch.sin(at) * noise


def path_velocity(clean, noise, time):
    at = math.pi / 2 * time[:, None, None]
    return torch.cos(at) * noise - torch.sin(at) * clean


def grid_angles(frames, size):
    """Rotary angles of 2 x 2 cells in each frame."""
    pairs = size // 2
    side = pairs // 3
    at = [(frame, row, column) for frame in frames for row in (0, 1) for column in (0, 1)]
    angles = []
    for axis, count in enumerate((pairs - 2 * side, side, side)):
        rates = 10000.0 ** (-torch.arange(count) / count)
        angles.append(torch.outer(torch.tensor(at).float()[:, axis], rates))
    return torch.cat(angles, 1).double()


def cross(table, batch, generator):
    w, size = Weights(table), len(batch["scene"])
    scene, action = 2 * batch["scene"] - 1, scaled(w, "action", batch["action"])
    now, future = patches(scene[:, :1], 8), patches(scene[:, 1:], 8)
    frame_time = torch.sigmoid(
        torch.randn(size, 2, generator=generator, dtype=torch.float64)
    ).repeat_interleave(4, 1)
    video_noise = normal(future.shape, generator)
    at = frame_time[..., None]
    noisy = (1 - at) * future + at * video_noise
    shapes = torch.tensor([1.5, 1.0], dtype=torch.float64).expand(size, 1, 2)
    gamma = torch._standard_gamma(shapes, generator)
    time = 0.001 + 0.999 * (gamma[..., 0] / gamma.sum(-1))[:, 0]
    time = 3 * time / (1 + 2 * time)
    noise = normal(action.shape, generator)
    words = text(w("words"), batch["text"], 1)
    zero = torch.zeros(size, dtype=torch.float64)
    parts = [linear(w("seer.scene_now_in"), now), linear(w("seer.scene_future_in"), noisy)]
    seer = coded(
        w("seer"),
        2,
        parts,
        [zero, frame_time],
        kv_heads=1,
        angles=grid_angles(range(3), 16),
        reads=[reader(w("hear"), words, 2, 1, {0, 1})],
    )
    rows = {"now": ["now"], "future": ["now", "future"]}
    (seen,) = run([seer], visible({"now": 4, "future": 8}, rows))
    reads = [
        reader(w("read"), words, 2, 2, {0, 2}),
        reader(w("watch"), seer.after[1].detach(), 2, 2, {0, 1, 2, 3}),
    ]
    part = linear(w("doer.action_in"), mixed(action, noise, time))
    doer = coded(w("doer"), 2, [part], [time], angles=line_angles(4, 12), reads=reads)
    (done,) = run([doer], full(4))
    foresight = mean_square(linear(w("seer.scene_future_out"), seen[:, 4:]), video_noise - future)
    act = mean_square(linear(w("doer.action_out"), done), noise - action)
    return {"loss": 0.5 * foresight + act, "foresight": foresight, "act": act}


def perceptron(w, x):
    return linear(w("2"), gelu(linear(w("0"), x)))


def tinted(w, x, source):
    scale, shift = linear(w("numbers"), source)[:, None].chunk(2, -1)
    return x * (1 + scale) + shift


class Conditioned:
    """The conditioned trunks for given noisy tokens."""

    def __init__(self, table, batch):
        self.w = w = Weights(table)
        body = scaled(w, "body", batch["body"])
        self.past, self.now = body[:, :2], body[:, 2:]
        eyes = conv_keypoints(w("eyes"), 2 * batch["scene"] - 1, (2, 2), 2)
        self.eyes = tinted(w("tint"), eyes, self.now.mean(1))

    def policy(self, action, time):
        w, own = self.w, self.w("policy")
        lead = linear(w("lead"), torch.cat([self.past.mean(1), self.now.mean(1)], 1))[:, None]
        parts = [
            lead,
            tokens(own("scene_in"), self.eyes),
            tokens(own("body_past_in"), perceptron(w("lift"), self.past)),
            tokens(own("action_in"), action),
        ]
        x = torch.cat(parts, 1)
        code = time_code(own("time"), time[:, None]) + linear(w("code"), self.now.mean(1))[:, None]
        (out,) = run([Trunk(own, "dit", 2, x, code.expand(-1, x.shape[1], -1))], full(x.shape[1]))
        return linear(own("action_out"), out[:, -4:])

    def other(self, hint, time):
        w, own = self.w, self.w("other")
        part = tinted(w("some"), tokens(own("hint_in"), hint), self.now.mean(1))
        zero = torch.zeros_like(time)
        trunk = coded(own, 1, [tokens(own("body_now_in"), self.now), part], [zero, time])
        each = linear(w("each"), self.past).repeat_interleave(2, 1)
        trunk.code = torch.cat([trunk.code[:, :1], trunk.code[:, 1:] + each], 1)
        (out,) = run([trunk], full(5))
        return linear(own("hint_out"), out[:, 1:])


def condition(table, batch, generator):
    model, size = Conditioned(table, batch), len(batch["scene"])
    action, hint = (scaled(model.w, name, batch[name]) for name in ("action", "hint"))
    time = torch.cos(math.pi / 2 * uniform(size, generator))
    noise = normal(action.shape, generator)
    later = uniform(size, generator)
    other_noise = normal(hint.shape, generator)
    output = model.policy(path(action, noise, time), time)
    act = mean_square(output, path_velocity(action, noise, time))
    foresee = mean_square(model.other(path(hint, other_noise, later), later), hint)
    return {"loss": act + foresee, "act": act, "foresee": foresee}


def condition_policy(table, batch, generator, steps):
    """DDIM by the predicted `v`."""
    model, size = Conditioned(table, batch), len(batch["scene"])
    x = normal((size, 4, 3), generator)
    for step in range(steps):
        now, then = 1 - step / steps, 1 - (step + 1) / steps
        v = model.policy(x, torch.full((size,), now, dtype=torch.float64))
        cos, sin = math.cos(math.pi / 2 * now), math.sin(math.pi / 2 * now)
        clean, noise = cos * x - sin * v, sin * x + cos * v
        x = math.cos(math.pi / 2 * then) * clean + math.sin(math.pi / 2 * then) * noise
    return x * model.w["action_scale"] + model.w["action_mean"]


class Tapped:
    """Seer and doer of the tap specs."""

    def __init__(self, table, batch):
        self.w = Weights(table)
        self.now = patches(2 * batch["scene"][:, :1] - 1, 8)
        self.zero = torch.zeros(len(self.now), dtype=torch.float64)

    def seer(self, future, time, layers=None):
        own = self.w("seer")
        parts = [tokens(own("scene_now_in"), self.now), tokens(own("scene_future_in"), future)]
        trunk = coded(own, 2, parts, [self.zero, time])
        (out,) = run([trunk], full(12), layers)
        return linear(own("scene_future_out"), out[:, 4:]), trunk.after

    def doer(self, action, time, seen):
        own = self.w("doer")
        reads = [reader(self.w("plan_cross"), seen.detach(), 2, 2, {0, 1})]
        trunk = coded(own, 2, [tokens(own("action_in"), action)], [time], reads=reads)
        (out,) = run([trunk], full(4))
        return linear(own("action_out"), out)


def tapped_loss(table, batch, generator, at):
    model, size = Tapped(table, batch), len(batch["scene"])
    future = patches(2 * batch["scene"][:, 1:] - 1, 8)
    action = scaled(model.w, "action", batch["action"])
    time = uniform(size, generator)
    time = 2 * time / (1 + time)
    video_noise = normal(future.shape, generator)
    action_time, noise = uniform(size, generator), normal(action.shape, generator)
    output, _ = model.seer(mixed(future, video_noise, time), time)
    foresight = mean_square(output, video_noise - future)
    held = torch.full((size,), at, dtype=torch.float64)
    fresh = mixed(future, normal(future.shape, generator), held)
    _, after = model.seer(fresh, held, layers=2)
    output = model.doer(mixed(action, noise, action_time), action_time, after[2])
    act = mean_square(output, noise - action)
    return {"loss": foresight + act, "foresight": foresight, "act": act}


def tap(table, batch, generator):
    return tapped_loss(table, batch, generator, 0.5)


def tap_noise(table, batch, generator):
    return tapped_loss(table, batch, generator, 1.0)


def tap_policy(table, batch, generator, steps):
    """Half-dream the future along the shifted schedule, then act from what the seer thinks."""
    model, size = Tapped(table, batch), len(batch["scene"])
    x = normal((size, 8, 192), generator)
    level = lambda t: 2 * t / (1 + t)  # noqa: E731
    stop = 1 / 3  # level(1 / 3) = 1 / 2
    for step in range(steps):
        now, then = (level(1 - (1 - stop) * s / steps) for s in (step, step + 1))
        velocity, _ = model.seer(x, torch.full((size,), now, dtype=torch.float64))
        x = x + (then - now) * velocity
    action = normal((size, 4, 3), generator)
    _, after = model.seer(x, torch.full((size,), 0.5, dtype=torch.float64), layers=2)
    for step in range(steps):
        time = torch.full((size,), 1 - step / steps, dtype=torch.float64)
        action = action - model.doer(action, time, after[2]) / steps
    return action * model.w["action_scale"] + model.w["action_mean"]


def hand(table, batch, generator):
    w, size = Weights(table), len(batch["scene"])
    scene, action = 2 * batch["scene"] - 1, scaled(w, "action", batch["action"])
    future = patches(scene[:, 1:], 8)
    time, noise = uniform(size, generator), normal(future.shape, generator)
    noisy = mixed(future, noise, time)
    own = w("dreamer")
    parts = [
        tokens(own("scene_now_in"), patches(scene[:, :1], 8)),
        tokens(own("scene_future_in"), noisy),
    ]
    (out,) = run([coded(own, 2, parts, [torch.zeros_like(time), time])], full(12))
    velocity = linear(own("scene_future_out"), out[:, 4:])
    foresight = mean_square(velocity, noise - future)
    predicted = (noisy - time[:, None, None] * velocity).detach()
    frames = torch.stack([_unpatched(sample) for sample in predicted])
    inner = functional.conv2d(frames.flatten(0, 1), *conv_pair(w("plan_hand.layers.0")), padding=1)
    soft = torch.sigmoid(
        functional.conv2d(functional.silu(inner), *conv_pair(w("plan_hand.layers.2")), padding=1)
    ).unflatten(0, (size, 2))
    hard = (soft > 0.5).to(soft.dtype) + soft - soft.detach()
    own = w("inverse")
    parts = [
        tokens(own("scene_now_in"), conv_grid(w("eyes"), scene[:, :1], (2, 2))),
        tokens(own("scene_future_in"), conv_grid(w("eyes"), hard * frames, (2, 2))),
        places(own("action_in"), size),
    ]
    x = torch.cat(parts, 1)
    (out,) = run([Trunk(own, "vit", 2, x)], full(x.shape[1]))
    gap = linear(own("action_out"), out[:, -4:]) - action
    huber = torch.where(gap.abs() < 1, gap**2 / 2, gap.abs() - 0.5)
    act, area = masked_mean(huber, everything(action)), hard.mean()
    loss = foresight + act + 0.01 * area
    return {"loss": loss, "foresight": foresight, "act": act, "plan.mask": area}


def conv_pair(w):
    return w["weight"], w["bias"]


def _unpatched(sample):
    """Eight patches of 8 x 8 -> two frames of 16 x 16."""
    grid = sample.reshape(2, 2, 2, 3, 8, 8)
    return torch.cat([torch.cat([grid[:, r, c] for c in (0, 1)], -1) for r in (0, 1)], -2)


def align(table, batch, generator):
    w, size = Weights(table), len(batch["scene"])
    scene, action = 2 * batch["scene"] - 1, scaled(w, "action", batch["action"])
    own = w("policy")
    parts = [
        tokens(own("scene_now_in"), conv_grid(w("eyes"), scene[:, :1], (2, 2))),
        places(own("dream_in"), size),
        places(own("action_in"), size),
    ]
    x = torch.cat(parts, 1)
    trunk = Trunk(own, "vit", 2, x)
    (out,) = run([trunk], full(x.shape[1]))
    act = mean_square(linear(own("action_out"), out[:, -2:]), action)
    dream = slice(16, 32)

    def target(teacher):
        return conv_grid(w(teacher), scene[:, 1:], (2, 2))

    def guess(name, hidden):
        return perceptron(w(name), hidden)

    unit = functional.normalize
    still = linear(w("still"), trunk.after[1][:, dream])
    still = 1 - (unit(still, dim=1) * unit(target("still_teacher").detach(), dim=1)).sum(1)
    gap = guess("slow", out[:, dream]) - target("slow_teacher").detach()
    slow = torch.where(gap.abs() < 1, gap**2 / 2, gap.abs() - 0.5)
    left, right = unit(guess("own", out[:, dream]), dim=-1), unit(target("eyes").detach(), dim=-1)
    scores = torch.einsum("btc,dtc->btd", left, right) / 0.2
    own_error = -torch.stack([scores.log_softmax(-1)[n, :, n] for n in range(size)])
    prediction = guess("open", trunk.after[0][:, dream])
    open_error = (prediction - target("eyes")) ** 2
    flat = prediction.reshape(-1, prediction.shape[-1])
    covariance = torch.cov(flat.T)
    spread_error = torch.relu(1 - torch.sqrt(covariance.diagonal() + 1e-4)).mean()
    off = (covariance**2).sum() - (covariance.diagonal() ** 2).sum()
    guard = spread_error + off / flat.shape[1]
    terms = {
        "act": act,
        "still": still.mean(),
        "slow": slow.mean(),
        "own": own_error.mean(),
        "open": open_error.mean(),
        "open.guard": guard,
    }
    shares = {"slow": 0.5, "open.guard": 0.3}
    return {"loss": sum(shares.get(name, 1) * term for name, term in terms.items()), **terms}


def symbols_logits(w, batch, index):
    """Logits of every action token from the tokens before it."""
    own, scene = w("lm"), 2 * batch["scene"][:, None] - 1
    look = conv_grid(w("eyes"), scene, (2, 2))
    x = torch.cat(
        [
            linear(own("scene_in"), look),
            own("word_in")["weight"][batch["word"].flatten(1)],
            own("action_in")["weight"][index],
        ],
        1,
    )
    x = tinted(w("glance"), x, look.mean(1))
    trunk = Trunk(own, "decoder", 4, x, kv_heads=2, angles=line_angles(x.shape[1], 8))
    (out,) = run([trunk], causal(x.shape[1]))
    return linear(own("action_out"), out[:, -7:-1])


def binned(x, bins, low, high):
    return ((x - low) / (high - low) * bins).floor().clamp(0, bins - 1).long().flatten(1)


def symbols_loss(table, batch, generator):
    w = Weights(table)
    index = binned(scaled(w, "action", batch["action"]), 16, -2, 2)
    logits = symbols_logits(w, batch, index)
    error = -logits.log_softmax(-1).gather(2, index[..., None])[..., 0]
    act = (error + 0.001 * logits.logsumexp(-1) ** 2).mean()
    return {"loss": act, "act": act}


def symbols_policy(table, batch, generator, steps):
    w, size = Weights(table), len(batch["scene"])
    index = torch.zeros(size, 6, dtype=torch.long)
    for token in range(6):
        shares = symbols_logits(w, batch, index)[:, token].softmax(-1)
        index[:, token] = torch.multinomial(shares, 1, generator=generator)[:, 0]
    value = (-2 + (index + 0.5) / 4).reshape(size, 3, 2)
    return value * w["action_scale"] + w["action_mean"]


def masked_logits(w, batch, index):
    own = w("filler")
    state = tokens(own("state_in"), scaled(w, "state", batch["state"]))
    x = torch.cat([state, symbols(own("action_in"), index)], 1)
    (out,) = run([Trunk(own, "vit", 2, x)], full(x.shape[1]))
    return linear(own("action_out"), out[:, 2:])


def masked(table, batch, generator):
    w, size = Weights(table), len(batch["state"])
    index = binned(scaled(w, "action", batch["action"]), 8, -3, 3)
    share = torch.cos(math.pi / 2 * uniform(size, generator))
    draw = torch.rand(index.shape, generator=generator, dtype=torch.float64)
    hidden = draw < share[:, None]
    logits = masked_logits(w, batch, torch.where(hidden, 8, index))
    error = -logits.log_softmax(-1).gather(2, index[..., None])[..., 0]
    act = error[hidden].sum() / max(int(hidden.sum()), 1)
    return {"loss": act, "act": act}


def masked_policy(table, batch, generator, steps):
    """In every round the least likely of the new tokens are hidden again."""
    w, size = Weights(table), len(batch["state"])
    index = torch.full((size, 8), 8)
    for step in range(steps):
        shares = masked_logits(w, batch, index).softmax(-1)
        draw = torch.multinomial(shares.flatten(0, 1), 1, generator=generator).reshape(size, 8)
        left = math.floor(8 * math.sin(math.pi / 2 * (1 - (step + 1) / steps)))
        for sample in range(size):
            fresh = [t for t in range(8) if index[sample, t] == 8]
            for t in fresh:
                index[sample, t] = draw[sample, t]
            chance = {t: shares[sample, t, draw[sample, t]].item() for t in fresh}
            for t in sorted(fresh, key=chance.get)[:left]:
                index[sample, t] = 8
    value = (-3 + (index + 0.5) * 0.75).reshape(size, 4, 2)
    return value * w["action_scale"] + w["action_mean"]


class Clocked:
    """One trunk, two clocks."""

    def __init__(self, table, batch):
        self.w = Weights(table)
        self.left = scaled(self.w, "left", batch["left"])

    def __call__(self, parts, both, own):
        w = self.w("policy")
        now = tokens(w("left_now_in"), self.left[:, :1])
        names = ("left_future", "right", "action")
        x = [now, *(tokens(w(f"{name}_in"), parts[name]) for name in names)]
        (out,) = run([coded(w, 2, x, [torch.zeros_like(both), both, both, own])], full(7))
        hidden = zip(names, out[:, 1:].split(2, 1), strict=True)
        return {name: linear(w(f"{name}_out"), part) for name, part in hidden}


def times(table, batch, generator):
    model, size = Clocked(table, batch), len(batch["left"])
    clean = {
        "left_future": model.left[:, 1:],
        "right": scaled(model.w, "right", batch["right"]),
        "action": scaled(model.w, "action", batch["action"]),
    }
    both = torch.full((size,), 0.7, dtype=torch.float64)
    noise = {name: normal(clean[name].shape, generator) for name in ("left_future", "right")}
    own = 0.2 + 0.8 * uniform(size, generator)
    own = 2 * own / (1 + own)
    noise["action"] = normal(clean["action"].shape, generator)
    clock = {"left_future": both, "right": both, "action": own}
    outputs = model({n: path(clean[n], noise[n], clock[n]) for n in clean}, both, own)
    errors = {name: mean_square(outputs[name], noise[name]) for name in clean}
    pair, act = (errors["left_future"] + errors["right"]) / 2, errors["action"]
    return {"loss": pair + act, "both": pair, "act": act}


def times_policy(table, batch, generator, steps):
    """DDIM by the predicted noise, the other streams held at pure noise."""
    model, size = Clocked(table, batch), len(batch["left"])
    held = {
        "left_future": normal((size, 2, 2), generator),
        "right": normal((size, 2, 3), generator),
    }
    x, one = normal((size, 2, 2), generator), torch.ones(size, dtype=torch.float64)
    for step in range(steps):
        now, then = (2 * t / (1 + t) for t in (1 - step / steps, 1 - (step + 1) / steps))
        eps = model({**held, "action": x}, one, now * one)["action"]
        cos, sin = math.cos(math.pi / 2 * now), math.sin(math.pi / 2 * now)
        clean = (x - sin * eps) / max(cos, 0.02)
        x = math.cos(math.pi / 2 * then) * clean + math.sin(math.pi / 2 * then) * eps
    return x * model.w["action_scale"] + model.w["action_mean"]


def untold(table, batch, generator):
    """Trunks of two kinds attend as one; none is told a time."""
    w, size = Weights(table), len(batch["state"])
    state, action = (scaled(w, name, batch[name]) for name in ("state", "action"))
    left, right = w("watcher"), w("actor")
    never = torch.zeros(size, dtype=torch.float64)
    trunks = [
        Trunk(left, "vit", 2, tokens(left("state_in"), state)),
        coded(right, 2, [places(right("action_in"), size)], [never]),
    ]
    rows = {"state": ["state"], "action": ["state", "action"]}
    _, out = run(trunks, visible({"state": 3, "action": 4}, rows))
    act = mean_square(linear(right("action_out"), out), action)
    return {"loss": act, "act": act}


LOSSES = {
    "untold": untold,
    "cross": cross,
    "condition": condition,
    "tap": tap,
    "tap_noise": tap_noise,
    "hand": hand,
    "align": align,
    "symbols": symbols_loss,
    "masked": masked,
    "times": times,
    "edm": edm,
    "weighted": weighted,
    "guided": guided,
    "pretrained": pretrained,
    "indices": indices,
}
POLICIES = {
    "condition": condition_policy,
    "tap": tap_policy,
    "symbols": symbols_policy,
    "masked": masked_policy,
    "times": times_policy,
    "edm": edm_policy,
    "guided": guided_policy,
}
