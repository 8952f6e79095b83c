"""Specs about views, slices, layouts and copies by hand: losses from weights and a batch."""

import torch

from tests.cpu.reference.mechanisms import (
    binned,
    coded,
    full,
    grid_angles,
    mean_square,
    scaled,
)
from tests.cpu.reference.paradigms import normal, uniform
from tests.cpu.reference.pieces import (
    Trunk,
    Weights,
    causal,
    conv_grid,
    gelu,
    line_angles,
    linear,
    patches,
    run,
    tokens,
    visible,
)


def seen_apart(w, x):
    """Frames of views [B, F, V, C, H, W] -> features [B, F, V, T, C], one view at a time."""
    views = [conv_grid(w, x[:, :, view], (2, 2)) for view in range(x.shape[2])]
    return torch.stack([v.unflatten(1, (x.shape[1], -1)) for v in views], 2)


def watched(w, batch, now, future, action, clocks):
    """The trunk of `views`: predicted velocities of the canvas and of the action."""
    own, size = w("policy"), len(now)
    pair = seen_apart(w("eyes"), 2 * batch["pair"] - 1).flatten(1, 3)
    stack = seen_apart(w("eyes"), 2 * batch["stack"] - 1)[:, 0]
    side_by_side = torch.cat([stack[:, 0], stack[:, 1]], -1).mean(1)
    parts = [
        tokens(own("canvas_now_in"), now),
        tokens(own("pair_in"), pair),
        tokens(own("canvas_future_in"), future),
        tokens(own("action_in"), action),
    ]
    zero = torch.zeros(size, dtype=torch.float64)
    trunk = coded(own, 2, parts, [zero, zero, *clocks])
    trunk.code = trunk.code + linear(w("look"), side_by_side)[:, None]
    (out,) = run([trunk], full(trunk.x.shape[1]))
    frames = now.shape[1]
    return (
        linear(own("canvas_future_out"), out[:, -frames - 2 : -2]),
        linear(own("action_out"), out[:, -2:]),
    )


def views(table, batch, generator):
    w, size = Weights(table), len(batch["action"])
    canvas, action = 2 * batch["canvas"] - 1, scaled(w, "action", batch["action"])
    now, future = patches(canvas[:, :1], 8), patches(canvas[:, 1:], 8)
    clocks, noisy, wanted = [], [], []
    for clean in (future, action):
        time = uniform(size, generator)
        noise = normal(clean.shape, generator)
        at = time[:, None, None]
        clocks.append(time)
        noisy.append((1 - at) * clean + at * noise)
        wanted.append(noise - clean)
    outputs = watched(w, batch, now, *noisy, clocks)
    foresight, act = (mean_square(out, want) for out, want in zip(outputs, wanted, strict=True))
    return {"loss": foresight + act, "foresight": foresight, "act": act}


def views_policy(table, batch, generator, steps):
    w, size = Weights(table), len(batch["pair"])
    now = patches(2 * batch["canvas"][:, :1] - 1, 8)
    action = normal((size, 2, 3), generator)
    future = normal(now.shape, generator)
    for step in range(steps):
        time = torch.full((size,), 1 - step / steps, dtype=torch.float64)
        frames, moves = watched(w, batch, now, future, action, [time, time])
        future, action = future - frames / steps, action - moves / steps
    return action * w["action_scale"] + w["action_mean"]


def written(w, parts, places):
    """Hidden states of the decoder of `arranged` over tokens at these places of the whole."""
    own = w("lm")
    x = torch.cat([own(f"{name}_in")["weight"][index] for name, index in parts], 1)
    trunk = Trunk(own, "decoder", 4, x, angles=line_angles(10, 8)[places])
    return run([trunk], causal(x.shape[1]))[0]


def acted(w, now, action):
    """Logits of the six numbers of three steps."""
    out = written(w, [("word_now", now), ("action", action)], list(range(8)))
    return linear(w("lm.action_out"), out[:, 1:7])


def picked(logits, index, counts=None):
    """The mean over all tokens, or over those of the samples that count."""
    each = -logits.log_softmax(-1).gather(2, index[..., None])[..., 0].mean(1)
    if counts is None:
        return each.mean()
    return (each * counts).sum() / counts.sum().clamp(min=1)


def of_source(batch, number):
    """1 for each sample of a data source, else 0; None where the batch names no sources."""
    named = batch.get("source")
    return None if named is None else (named == number).double()


def arranged(table, batch, generator):
    """The world sees the last word and the first step, each at its own place, of films alone."""
    w = Weights(table)
    now, later = batch["word"][:, :2].flatten(1), batch["word"][:, 2:].flatten(1)
    action = binned(scaled(w, "action", batch["action"]), 16, -2, 2)
    act = picked(acted(w, now, action), action)
    parts = [("word_now", now[:, 1:]), ("action", action[:, :2]), ("word_future", later)]
    out = written(w, parts, [1, 2, 3, 8, 9])
    later = picked(linear(w("lm.word_future_out"), out[:, 2:4]), later, of_source(batch, 0))
    return {"loss": 0.75 * act + 0.25 * 0.5 * later, "act": act, "next": later}


def arranged_policy(table, batch, generator, steps):
    w, size = Weights(table), len(batch["word"])
    now, index = batch["word"][:, :2].flatten(1), torch.zeros(size, 6, dtype=torch.long)
    for token in range(6):
        shares = acted(w, now, index)[:, token].softmax(-1)
        index[:, token] = torch.multinomial(shares, 1, generator=generator)[:, 0]
    value = (-2 + (index + 0.5) / 4).reshape(size, 3, 2)
    return value * w["action_scale"] + w["action_mean"]


def mixed_with(clean, noise, time):
    """Flow: a time for each token [B, T]."""
    return (1 - time[..., None]) * clean + time[..., None] * noise


def moved(time, shift):
    return shift * time / (1 + (shift - 1) * time)


class Chunked:
    """The data of `copied`, and its order keys for some size of a chunk."""

    def __init__(self, table, batch):
        self.w = Weights(table)
        self.camera = patches(2 * batch["camera"] - 1, 4)
        self.action = scaled(self.w, "action", batch["action"])

    def keys(self, chunk):
        """Of 6 frames of 4 tokens, then of 6 steps."""
        frames = [2 * (frame // chunk) for frame in range(6) for _ in range(4)]
        return frames + [2 * (step // chunk) + 1 for step in range(6)]

    def embedded(self, camera, action):
        own = self.w("dit")
        now, later = len(camera[0]) - 8, len(action[0]) - 2
        parts = [
            linear(own("camera_now_in"), camera[:, :16]),
            linear(own("camera_future_in"), camera[:, 16:]) if now else camera[:, :0],
            linear(own("action_past_in"), action[:, :4]),
        ]
        if later:
            parts.append(linear(own("action_future_in"), action[:, 4:]))
        return torch.cat([part for part in parts if part.shape[1]], 1)

    def angles(self):
        line = grid_angles([0, 1, 2, 3], 16)[::4]
        line[:, 4:] = 0
        return torch.cat([grid_angles(range(6), 16), line, line[:2]])

    def out(self, x, times, angles, mask):
        own = self.w("dit")
        trunk = coded(own, 2, [x], [times], angles=angles)
        return run([trunk], mask)[0]


def copied(table, batch, generator):
    model, size = Chunked(table, batch), len(batch["action"])
    own = model.w("dit")

    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    camera, action = model.camera, model.action
    seen_time = moved(draw(size, 2), 5).repeat_interleave(4, 1)
    seen_noise = normal((size, 8, 48), generator)
    act_time = draw(size, 2)
    act_noise = normal((size, 2, 2), generator)
    again = (draw(size, 1) < 0.5).double()
    now_time = again * moved(0.5 * draw(size, 4), 5)
    now_noise = normal((size, 16, 48), generator)
    late_time = again * moved(0.5 * draw(size, 2), 5)
    late_noise = normal((size, 8, 48), generator)
    chunk = int(torch.randint(1, 4, (), generator=generator))
    window = int(torch.randint(1, 5, (), generator=generator))
    clean_time = torch.cat([now_time, late_time], 1).repeat_interleave(4, 1)
    clean = mixed_with(camera, torch.cat([now_noise, late_noise], 1), clean_time)
    noisy = camera.clone()
    noisy[:, 16:] = mixed_with(camera[:, 16:], seen_noise, seen_time)
    told = action.clone()
    told[:, 4:] = mixed_with(action[:, 4:], act_noise, act_time)
    never = torch.zeros(size, 6, dtype=torch.float64)
    times = [clean_time, never, torch.zeros(size, 16, dtype=torch.float64), seen_time]
    times += [never[:, :4], act_time]
    keys = torch.tensor(model.keys(chunk))
    gap = keys[:, None] - keys[None, :]
    near = gap <= window
    nothing = torch.zeros_like(near)
    mask = torch.cat(
        [
            torch.cat([(gap >= 0) & near, nothing], 1),
            torch.cat([(gap > 0) & near, gap == 0], 1),
        ]
    )
    x = torch.cat([model.embedded(clean, action), model.embedded(noisy, told)], 1)
    out = model.out(x, torch.cat(times, 1), model.angles().repeat(2, 1), mask)[:, 30:]
    foresight = mean_square(
        linear(own("camera_future_out"), out[:, 16:24]), seen_noise - camera[:, 16:]
    )
    act = mean_square(linear(own("action_future_out"), out[:, 28:]), act_noise - action[:, 4:])
    return {"loss": foresight + act, "foresight": foresight, "act": act}


def copied_policy(table, batch, generator, steps):
    """First the frames of a chunk of two, then its actions, which see them."""
    model, size = Chunked(table, batch), len(batch["action"])
    own = model.w("dit")
    keys = torch.tensor(model.keys(2))
    gap = keys[:, None] - keys[None, :]
    mask = (gap >= 0) & (gap <= 3)
    camera, action = model.camera.clone(), model.action.clone()
    camera[:, 16:] = normal((size, 8, 48), generator)
    for step in range(steps):
        now, then = (moved(1 - at / steps, 5) for at in (step, step + 1))
        times = torch.zeros(size, 28, dtype=torch.float64)
        times[:, 16:24] = now
        x = model.embedded(camera, action[:, :4])[:, :28]
        out = model.out(x, times, model.angles()[:28], mask[:28, :28])
        change = (then - now) * linear(own("camera_future_out"), out[:, 16:24])
        camera = torch.cat([camera[:, :16], camera[:, 16:] + change], 1)
    action[:, 4:] = normal((size, 2, 2), generator)
    for step in range(steps):
        times = torch.zeros(size, 30, dtype=torch.float64)
        times[:, 28:] = 1 - step / steps
        out = model.out(model.embedded(camera, action), times, model.angles(), mask)
        change = linear(own("action_future_out"), out[:, 28:]) / steps
        action = torch.cat([action[:, :4], action[:, 4:] - change], 1)
    return action[:, 4:] * model.w["action_scale"] + model.w["action_mean"]


ROWS = {
    "noisy now": ["noisy now"],
    "noisy future": ["noisy now", "noisy future"],
    "now": ["now"],
    "future": ["now", "future"],
    "action": ["now", "future", "action"],
}


def both_trunks(w, parts, clocks, action, clock):
    """The experts of `twice`, over parts (name, tokens) of the first."""
    seer, doer = w("seer"), w("doer")
    embedded = [tokens(seer(f"camera_{name.split()[-1]}_in"), x) for name, x in parts]
    trunks = [coded(seer, 2, embedded, clocks)]
    counts = {name: x.shape[1] for name, x in parts}
    if action is not None:
        trunks.append(coded(doer, 2, [tokens(doer("action_in"), action)], [clock]))
        counts["action"] = 2
    return run(trunks, visible(counts, ROWS))


def twice(table, batch, generator):
    w, size = Weights(table), len(batch["action"])
    camera, action = 2 * batch["camera"] - 1, scaled(w, "action", batch["action"])
    now, future = patches(camera[:, :1], 4), patches(camera[:, 1:], 4)
    seen_time = moved(uniform(size, generator), 2)
    seen_noise = normal(future.shape, generator)
    act_time = uniform(size, generator)
    act_noise = normal(action.shape, generator)
    again = (uniform(size, generator) < 0.5).double()
    late_time = again * moved(uniform(size, generator), 2)
    late_noise = normal(future.shape, generator)
    zero = torch.zeros(size, dtype=torch.float64)
    parts = [
        ("noisy now", now),
        ("noisy future", mixed_with(future, seen_noise, seen_time[:, None])),
        ("now", now),
        ("future", mixed_with(future, late_noise, late_time[:, None])),
    ]
    told = mixed_with(action, act_noise, act_time[:, None])
    seer, doer = both_trunks(w, parts, [zero, seen_time, zero, late_time], told, act_time)
    foresight = mean_square(linear(w("seer.camera_future_out"), seer[:, 4:12]), seen_noise - future)
    act = mean_square(linear(w("doer.action_out"), doer), act_noise - action)
    return {"loss": foresight + act, "foresight": foresight, "act": act}


def twice_policy(table, batch, generator, steps):
    w, size = Weights(table), len(batch["camera"])
    now = patches(2 * batch["camera"][:, :1] - 1, 4)
    zero = torch.zeros(size, dtype=torch.float64)
    future = normal((size, 8, 48), generator)
    for step in range(steps):
        level, then = (moved(1 - at / steps, 2) for at in (step, step + 1))
        parts = [("now", now), ("future", future)]
        (seer,) = both_trunks(w, parts, [zero, zero + level], None, None)
        future = future + (then - level) * linear(w("seer.camera_future_out"), seer[:, 4:])
    action = normal((size, 2, 2), generator)
    for step in range(steps):
        parts = [("now", now), ("future", future)]
        _, doer = both_trunks(w, parts, [zero, zero], action, zero + 1 - step / steps)
        action = action - linear(w("doer.action_out"), doer) / steps
    return action * w["action_scale"] + w["action_mean"]


def chosen_by(batch, w, name, apply, x):
    """Each sample through the weights of its own embodiment."""
    number = batch.get("embodiment", torch.zeros(len(x), dtype=torch.int64))
    chosen = torch.stack([number == 0, number == 1]).double()[..., None, None]
    return sum(chosen[n] * apply(w(f"{name}.{n}"), x) for n in (0, 1))


def perceived(w, x):
    return linear(w("2"), gelu(linear(w("0"), x)))


def embodied(w, batch, action, clock):
    own, zero = w("policy"), torch.zeros(len(action), dtype=torch.float64)
    deep = patches(batch["deep"][:, :1, None], 8)
    state = chosen_by(batch, w, "body", perceived, scaled(w, "state", batch["state"]))
    parts = [
        tokens(own("deep_now_in"), deep),
        chosen_by(batch, own, "state_in", tokens, state),
        chosen_by(batch, own, "action_in", tokens, action),
    ]
    trunk = coded(own, 2, parts, [zero, zero, clock])
    return run([trunk], full(7))[0]


def kinds(table, batch, generator):
    w, size = Weights(table), len(batch["state"])
    action = scaled(w, "action", batch["action"])
    clock = uniform(size, generator)
    noise = normal(action.shape, generator)
    out = embodied(w, batch, mixed_with(action, noise, clock[:, None]), clock)
    velocity = chosen_by(batch, w("policy"), "action_out", linear, out[:, 5:])
    act = mean_square(velocity, noise - action)
    later = patches(batch["deep"][:, 1:, None], 8)
    error = ((linear(w("foresight"), out[:, :4]) - later) ** 2).mean(-1)
    counts = [4.0 if n == 0 else 1.0 for n in batch.get("source", [-1] * size)]
    foresight = (error.mean(1) * torch.tensor(counts)).mean()
    return {"loss": act + 0.5 * foresight, "act": act, "foresight": foresight}


def numbers_of(batch, name):
    """1 for every number that counts, else 0, in the shape of the stream."""
    ones = torch.ones_like(batch[name])
    whole = batch.get(f"{name}.valid", ones[..., 0])
    return ones * whole[..., None] * batch.get(f"{name}.numbers", ones)


def filled(w, batch, name):
    """Numbers in the units of the module; 0 where a body has none."""
    return scaled(w, name, batch[name]) * batch.get(f"{name}.numbers", 1.0)


def mean_of_numbers(error, counts):
    """Over steps with any number that counts; of each step over those numbers alone."""
    steps = [
        (error[b, t] * counts[b, t]).sum() / counts[b, t].sum()
        for b in range(len(error))
        for t in range(error.shape[1])
        if counts[b, t].any()
    ]
    return sum(steps) / max(len(steps), 1)


def padded_body(w, state, action, goal, clocks):
    """Velocities of the trunk of `padded`; past and future of the action are apart."""
    own, zero = w("policy"), torch.zeros(len(state), dtype=torch.float64)
    named = {"state": state, "action_past": action[0], "action_future": action[1], "goal": goal}
    parts = [tokens(own(f"{name}_in"), x) for name, x in named.items()]
    (out,) = run([coded(own, 2, parts, [zero, zero, *clocks])], full(8))
    return linear(own("action_future_out"), out[:, 3:7]), linear(own("goal_out"), out[:, 7:])


def padded(table, batch, generator):
    """Two noises of every sample, one behind the other."""
    w, size = Weights(table), len(batch["state"])
    state, action, goal = (
        filled(w, batch, name).repeat_interleave(2, 0) for name in ("state", "action", "goal")
    )
    cleans, clocks, noises, noisy = (action[:, 2:], goal), [], [], []
    for clean in cleans:
        clocks.append(uniform(2 * size, generator))
        noises.append(normal(clean.shape, generator))
        noisy.append(mixed_with(clean, noises[-1], clocks[-1][:, None]))
    found = padded_body(w, state, (action[:, :2], noisy[0]), noisy[1], clocks)
    counts = numbers_of(batch, "action")[:, 2:], numbers_of(batch, "goal")
    act, aim = (
        mean_of_numbers((out - (noise - clean)) ** 2, count.repeat_interleave(2, 0))
        for out, noise, clean, count in zip(found, noises, cleans, counts, strict=True)
    )
    return {"loss": act + 0.3 * aim, "act": act, "aim": aim}


LOSSES = {
    "padded": padded,
    "views": views,
    "arranged": arranged,
    "copied": copied,
    "twice": twice,
    "kinds": kinds,
}
POLICIES = {
    "views": views_policy,
    "arranged": arranged_policy,
    "copied": copied_policy,
    "twice": twice_policy,
}
