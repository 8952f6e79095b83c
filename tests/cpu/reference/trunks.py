"""Specs of trunks and couplings written by hand: losses from weights and a batch."""

import math

import torch
from torch.nn import functional

from tests.cpu.reference.mechanisms import (
    coded,
    full,
    grid_angles,
    mean_square,
    path,
    path_velocity,
    scaled,
)
from tests.cpu.reference.paradigms import beta, mixed, normal, uniform
from tests.cpu.reference.pieces import (
    Trunk,
    Weights,
    causal,
    gelu,
    gelu_tanh,
    layer_norm,
    line_angles,
    linear,
    patches,
    places,
    projected,
    reader,
    run,
    silu,
    softmax_attention,
    standardised,
    text,
    time_code,
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


class Framewise:
    """The trunks of the spec `framewise`."""

    def __init__(self, table, batch):
        self.w = Weights(table)
        self.size = len(batch["scene"])
        self.now = patches(2 * batch["scene"][:, :1] - 1, 8)
        self.first = linear(self.w("first"), self.now)

    def seer(self, future, wrist, times, layers=None):
        own = self.w("seer")
        frames = tokens(own("scene_future_in"), future) + torch.cat(3 * [self.first], 1)
        trunk = coded(own, 2, [frames, tokens(own("wrist_in"), wrist)], times)
        return trunk, run([trunk], full(18), layers)[0]

    def action(self, future, wrist):
        """What the doer makes of what is seen at time 0.5."""
        w, half = self.w, torch.full((self.size,), 0.5, dtype=torch.float64)
        seen, _ = self.seer(future, wrist, [half, half])
        slots = places(w("former.slots_in"), self.size)
        found = []
        for frame in range(3):
            both = [(4 * frame, 4), (12 + 2 * frame, 2)]
            early = torch.cat([seen.after[1][:, low : low + count] for low, count in both], 1)
            early = embedded(w("look_embed"), early)
            late = seen.after[2][:, 12 + 2 * frame : 14 + 2 * frame].detach()
            found.append((early, late))
        trunk = Trunk(w("former"), "vit", 2, slots, reads=[FrameReader(w, found)])
        (formed,) = run([trunk], full(6))
        return self.doer(formed)

    def doer(self, formed):
        own = self.w("doer")
        lead = linear(self.w("pooled"), formed.mean(1))[:, None]
        parts = [places(own(f"{name}_in"), self.size) for name in ("slots", "action")]
        x = torch.cat([lead, *parts], 1)
        pair = [-1] + [token // 2 for token in range(6)] * 2
        rows = [[key for key in range(13) if pair[key] in (-1, pair[query])] for query in range(13)]
        rows[0] = [0]
        for layer in range(2):
            means = torch.stack([x[:, keys].mean(1) for keys in rows], 1)
            x = x + gelu(linear(own(f"blocks.{layer}"), means))
        return linear(own("action_out"), x[:, 7:])

    def painter(self):
        """Each frame has two questions in front of it, which stand where it stands."""
        w, own, thinker = self.w, self.w("painter"), self.w("thinker")
        x = torch.cat([tokens(thinker("scene_now_in"), self.now),
                       places(thinker("asks_in"), self.size)], 1)  # fmt: skip
        (thought,) = run([Trunk(thinker, "vit", 2, x)], full(12))
        asks = linear(w("question"), thought[:, 4:])
        now = linear(own("scene_now_in"), self.now)
        x = torch.cat([asks, now, places(own("later_in"), self.size)], 1)
        frame = [0, 0, 1, 1, 2, 2, 3, 3] + 4 * [0] + [1 + token // 4 for token in range(12)]
        mask = torch.tensor([[key <= query for key in frame] for query in frame])
        at = [0, 0] + [frame // 2 for frame in range(6)]
        angles = torch.cat([lead_angles(at, 16), grid_angles([0], 16), grid_angles(range(3), 16)])
        (out,) = run([Trunk(own, "vit", 2, x, angles=angles)], mask)
        return linear(own("later_out"), out[:, 12:])


def lead_angles(frames, size):
    """Rotary angles of (frame, 0, 0)."""
    pairs = size // 2
    side = pairs // 3
    count = pairs - 2 * side
    rates = 10000.0 ** (-torch.arange(count) / count)
    turns = torch.outer(torch.tensor(frames).float(), rates)
    return torch.cat([turns, torch.zeros(len(frames), 2 * side)], 1).double()


class FrameReader:
    """The crosses `look` and `again`: two tokens of the former for each frame."""

    def __init__(self, w, found):
        self.looks = [reader(w("look"), early, 2, 2, {0, 1}) for early, _ in found]
        self.agains = [reader(w("again"), late, 2, 2, {1}) for _, late in found]

    def __call__(self, layer, x):
        for readers in (self.looks, self.agains):
            parts = [x[:, 2 * frame : 2 * frame + 2] for frame in range(3)]
            x = torch.cat([read(layer, part) for read, part in zip(readers, parts)], 1)  # noqa: B905
        return x


def framewise(table, batch, generator):
    model = Framewise(table, batch)
    future = patches(2 * batch["scene"][:, 1:] - 1, 8)
    wrist = patches(2 * batch["wrist"] - 1, 8)
    times, noises, noisy = [], [], []
    for clean in (future, wrist):
        times.append(uniform(model.size, generator))
        noises.append(normal(clean.shape, generator))
        noisy.append(mixed(clean, noises[-1], times[-1]))
    half = torch.full((model.size,), 0.5, dtype=torch.float64)
    held = [mixed(clean, normal(clean.shape, generator), half) for clean in (future, wrist)]
    _, out = model.seer(*noisy, times)
    own = model.w("seer")
    seen = mean_square(linear(own("scene_future_out"), out[:, :12]), noises[0] - future)
    felt = mean_square(linear(own("wrist_out"), out[:, 12:]), noises[1] - wrist)
    paint = mean_square(model.painter(), patches(2 * batch["later"] - 1, 8))
    act = mean_square(model.action(*held), scaled(model.w, "action", batch["action"]))
    foresight = (seen + felt) / 2
    return {"loss": foresight + paint + act, "foresight": foresight, "paint": paint, "act": act}


class Paired:
    """The trunks of the spec `paired`."""

    def __init__(self, table, batch):
        self.w = w = Weights(table)
        self.size = len(batch["scene"])
        self.now = patches(2 * batch["scene"][:, :1] - 1, 8)
        self.words = tokens(w("speaker.text_in"), text(w("words"), batch["text"], 1))

    def seer(self, future, time):
        own = self.w("seer")
        parts = [tokens(own("scene_now_in"), self.now), tokens(own("scene_future_in"), future)]
        parts.append(places(own("think_in"), self.size))
        zero = torch.zeros_like(time)
        trunk = coded(own, 2, parts, [zero, time, zero])
        rows = {name: ["now", "think"] for name in ("now", "think")}
        rows["future"] = ["now", "future", "think"]
        (out,) = run([trunk], visible({"now": 4, "future": 8, "think": 3}, rows))
        return trunk, linear(own("scene_future_out"), out[:, 4:12])

    def doer(self, action, time, seer):
        w = self.w
        speaker = Trunk(w("speaker"), "decoder", 2, self.words, kv_heads=1)
        run([speaker], causal(3))
        thoughts = [embedded(w("glance_embed"), state[:, 12:]) for state in seer.after]

        def read(layer, x):
            x = reader(w("look"), seer.after[layer + 1], 2, 2, {layer})(layer, x)
            x = reader(w("glance"), thoughts[layer + 1], 2, 2, {0, 2})(layer, x)
            return reader(w("hear"), speaker.after[layer + 1], 2, 2, {1})(layer, x)

        trunk = coded(w("doer"), 2, [tokens(w("doer.action_in"), action)], [time], reads=[read])
        (out,) = run([trunk], full(4))
        return linear(w("doer.action_out"), out)


def paired(table, batch, generator):
    model = Paired(table, batch)
    future = patches(2 * batch["scene"][:, 1:] - 1, 8)
    action = scaled(model.w, "action", batch["action"])
    later = uniform(model.size, generator)
    video_noise = normal(future.shape, generator)
    time = uniform(model.size, generator)
    noise = normal(action.shape, generator)
    seer, velocity = model.seer(mixed(future, video_noise, later), later)
    foresight = mean_square(velocity, video_noise - future)
    act = mean_square(model.doer(mixed(action, noise, time), time, seer), noise - action)
    return {"loss": foresight + act, "foresight": foresight, "act": act}


def paired_policy(table, batch, generator, steps):
    """The frames stay pure noise."""
    model = Paired(table, batch)
    pinned = normal((model.size, 8, 192), generator)
    seer, _ = model.seer(pinned, torch.ones(model.size, dtype=torch.float64))
    x = normal((model.size, 4, 3), generator)
    x = flown(lambda action, time: model.doer(action, time, seer), x, steps)
    return x * model.w["action_scale"] + model.w["action_mean"]


def grouped(w, x):
    """Group norm of [N, W, ...] in groups of W / 8 channels at least."""
    parts = x.reshape(len(x), math.gcd(8, x.shape[1]), -1)
    shape = (-1, *[1] * (x.ndim - 2))
    return standardised(parts).reshape(x.shape) * w["weight"].reshape(shape) + w["bias"].reshape(
        shape
    )


def convolved(w, x, stride=1):
    return functional.conv2d(x, w["weight"], w["bias"], stride=stride, padding=1)


def enlarged(x, rows, columns):
    """[N, W, H, V] with the nearest cell for every cell of the larger map."""
    at = [[math.floor((place + 0.5) * old / new) for place in range(new)]
          for old, new in ((x.shape[2], rows), (x.shape[3], columns))]  # fmt: skip
    return x[:, :, at[0]][:, :, :, at[1]]


class UNet:
    """Frames of two videos as maps [B, F, W, H, V], on their way through the blocks of a U-Net."""

    def __init__(self, w, maps, code, sees, prompt):
        self.w, self.maps, self.code, self.sees, self.prompt = w, maps, code, sees, prompt
        self.skips, self.after = [], []

    def each(self, function):
        """A function of single frames [N, W, H, V]."""
        done = [function(x.flatten(0, 1)) for x in self.maps]
        shaped = zip(done, self.maps, strict=True)
        self.maps = [new.reshape(*old.shape[:2], *new.shape[1:]) for new, old in shaped]

    def block(self, depth, stride, up):
        own = self.w(f"blocks.{depth}")
        if up:
            skips = self.skips.pop()
            size = skips[0].shape[3:]
            self.each(lambda x: enlarged(x, *size))
            self.maps = [torch.cat(pair, 2) for pair in zip(self.maps, skips, strict=True)]
        if own.has("inward"):
            self.each(lambda x: convolved(own("inward"), x, stride))
        self.maps = [
            self.residual(own("residual"), x, self.code[:, video])
            for video, x in enumerate(self.maps)
        ]
        self.maps = [self.over_time(own("over_time"), x) for x in self.maps]
        self.maps = [self.among_cells(own, x) for x in self.maps]
        self.maps = self.among_frames(own)
        self.maps = [self.prompted(depth, x) for x in self.maps]
        if stride and not up:
            self.skips.append(self.maps)
        self.after.append(self.tokens())

    def residual(self, w, x, code):
        frames = []
        for frame in x.unbind(1):
            scale, shift = linear(w("numbers"), silu(code))[:, :, None, None].chunk(2, 1)
            change = convolved(w("enter"), silu(grouped(w("enter_norm"), frame)))
            change = grouped(w("leave_norm"), change) * (1 + scale) + shift
            frames.append(frame + convolved(w("leave"), silu(change)))
        return torch.stack(frames, 1)

    def over_time(self, w, x):
        """Weights [W, W, 3, 1, 1] over the frame before, the frame and the one behind."""
        inner = silu(grouped(w("norm"), x.transpose(1, 2)))
        zero = torch.zeros_like(inner[:, :, :1])
        padded = torch.cat([zero, inner, zero], 2)
        change = w("layer")["bias"][:, None, None, None]
        for tap in range(3):
            weight = w("layer")["weight"][:, :, tap, 0, 0]
            frames = padded[:, :, tap : tap + x.shape[1]]
            change = change + torch.einsum("ow,bwfhv->bofhv", weight, frames)
        return x + change.transpose(1, 2)

    def attended(self, w, x, everything, place):
        """Tokens [B, T, W] read others, of which they stand from `place` on."""
        query, _, _ = projected(w, everything[:, place : place + x.shape[1]], 1, 1)
        _, key, value = projected(w, everything, 1, 1)
        mask = torch.ones(x.shape[1], everything.shape[1], dtype=torch.bool)
        return x + linear(w("outward"), softmax_attention(query, key, value, mask).flatten(2))

    def among_cells(self, own, x):
        frames = []
        for frame in x.unbind(1):
            cells = frame.flatten(2).transpose(1, 2)
            normed = layer_norm(own("cells_norm"), cells)
            cells = self.attended(own("cells"), cells, normed, 0)
            frames.append(cells.transpose(1, 2).reshape(frame.shape))
        return torch.stack(frames, 1)

    def among_frames(self, own):
        results = [x.clone() for x in self.maps]
        for row in range(self.maps[0].shape[3]):
            for column in range(self.maps[0].shape[4]):
                cells = [x[:, :, :, row, column] for x in self.maps]
                for video, seen in enumerate(self.sees):
                    every = torch.cat([cells[other] for other in seen], 1)
                    place = sum(cells[other].shape[1] for other in seen if other < video)
                    normed = layer_norm(own("frames_norm"), every)
                    read = self.attended(own("frames"), cells[video], normed, place)
                    results[video][:, :, :, row, column] = read
        return results

    def prompted(self, depth, x):
        flat = x.permute(0, 1, 3, 4, 2).flatten(1, 3)
        read = self.prompt(depth, flat).reshape(x.shape[0], x.shape[1], *x.shape[3:], -1)
        return read.permute(0, 1, 4, 2, 3)

    def tokens(self):
        parts = []
        for x in self.maps:
            cells = enlarged(x.flatten(0, 1), 3, 3).reshape(*x.shape[:3], 3, 3)
            parts.append(cells.permute(0, 1, 3, 4, 2).flatten(1, 3))
        return torch.cat(parts, 1)


class Painted:
    """The trunks of the spec `unet`."""

    def __init__(self, table, batch):
        self.w = w = Weights(table)
        self.size = len(batch["scene"])
        self.first = linear(w("first"), patches(2 * batch["scene"][:, :1] - 1, 4))
        self.words = text(w("words"), batch["text"], 1)

    def painter(self, future, wrist, times):
        own = self.w("painter")
        frames = linear(own("scene_future_in"), future) + torch.cat(2 * [self.first], 1)
        parts = [frames, linear(own("wrist_in"), wrist)]
        maps = [x.reshape(self.size, -1, 3, 3, 16).permute(0, 1, 4, 2, 3) for x in parts]
        prompt = reader(self.w("prompt"), self.words, 1, 1, {0, 1, 2, 3})
        code = time_code(own("time"), torch.stack(times, 1))
        net = UNet(own, maps, code, [(0,), (0, 1)], prompt)
        for depth, (stride, up) in enumerate(
            [(1, False), (2, False), (0, False), (1, True), (1, True)]
        ):
            net.block(depth, stride, up)
        out = layer_norm(own("norm"), net.after[4])
        heads = [own("scene_future_out"), own("wrist_out")]
        return net.after[3], linear(heads[0], out[:, :18]), linear(heads[1], out[:, 18:])

    def doer(self, action, time, seen):
        own = self.w("doer")
        reads = [reader(self.w("look"), seen.detach(), 2, 2, {0, 1})]
        trunk = coded(own, 2, [tokens(own("action_in"), action)], [time], reads=reads)
        (out,) = run([trunk], full(4))
        return linear(own("action_out"), out)

    def seen(self, generator):
        ones = torch.ones(self.size, dtype=torch.float64)
        noises = normal((self.size, 18, 48), generator), normal((self.size, 27, 48), generator)
        return self.painter(*noises, [ones, ones])[0]


def unet(table, batch, generator):
    model = Painted(table, batch)
    future = patches(2 * batch["scene"][:, 1:] - 1, 4)
    wrist = patches(2 * batch["wrist"] - 1, 4)
    action = scaled(model.w, "action", batch["action"])
    times, noises, noisy = [], [], []
    for clean in (future, wrist):
        times.append(uniform(model.size, generator))
        noises.append(normal(clean.shape, generator))
        noisy.append(path(clean, noises[-1], times[-1]))
    time = uniform(model.size, generator)
    noise = normal(action.shape, generator)
    _, scene_out, wrist_out = model.painter(*noisy, times)
    seen = model.seen(generator)
    velocity = model.doer(mixed(action, noise, time), time, seen)
    foresight = mean_square(scene_out, path_velocity(future, noises[0], times[0]))
    foresight = (
        foresight + mean_square(wrist_out, path_velocity(wrist, noises[1], times[1]))
    ) / 2
    act = mean_square(velocity, noise - action)
    return {"loss": foresight + act, "foresight": foresight, "act": act}


def unet_policy(table, batch, generator, steps):
    model = Painted(table, batch)
    seen = model.seen(generator)
    x = normal((model.size, 4, 3), generator)
    x = flown(lambda action, time: model.doer(action, time, seen), x, steps)
    return x * model.w["action_scale"] + model.w["action_mean"]


class Drawn:
    """The trunks of the spec `draws`, one noise of each sample at a time."""

    def __init__(self, table, batch):
        self.w = w = Weights(table)
        self.size = len(batch["scene"])
        self.body = scaled(w, "body", batch["body"])
        x = tokens(w("seer.scene_in"), patches(2 * batch["scene"] - 1, 8))
        (self.seen,) = run([Trunk(w("seer"), "vit", 2, x)], full(4))

    def doer(self, action, time):
        w, own = self.w, self.w("doer")
        lead = linear(w("lead"), self.seen.mean(1))[:, None]
        clock = linear(w("clock"), sinusoids(time))
        parts = [lead, clock, tokens(own("body_in"), self.body)]
        parts += [places(own("registers_in"), self.size), tokens(own("action_in"), action)]
        look = embedded(w("look_embed"), self.seen)
        zero = torch.zeros_like(time)
        trunk = coded(own, 2, parts, [zero, zero, zero, zero, time],
                      reads=[reader(w("look"), look, 2, 2, {0, 1})])  # fmt: skip
        trunk.code = trunk.code + linear(w("state"), self.body.mean(1))[:, None]
        (out,) = run([trunk], full(9))
        return linear(own("action_out"), out[:, 5:])


def draws(table, batch, generator):
    model = Drawn(table, batch)
    action = scaled(model.w, "action", batch["action"])
    times = beta(3 * model.size, generator).reshape(-1, 3)
    noises = normal((3 * model.size, 4, 3), generator).reshape(-1, 3, 4, 3)
    total = 0.0
    for draw in range(3):
        time, noise = times[:, draw], noises[:, draw]
        velocity = model.doer(mixed(action, noise, time), time)
        bell = (torch.exp(-2 * (time - 0.5) ** 2) - math.exp(-0.5)) / 0.2490937321795
        errors = ((velocity - (noise - action)) ** 2).mean((1, 2))
        total = total + (bell * errors).mean() / 3
    return {"loss": total, "act": total}


def draws_policy(table, batch, generator, steps):
    model = Drawn(table, batch)
    x = flown(model.doer, normal((model.size, 4, 3), generator), steps)
    return x * model.w["action_scale"] + model.w["action_mean"]


class Timed:
    """The trunk of the spec `fractional`: 0.05 s a step, 0.2 s a frame."""

    def __init__(self, table, batch):
        self.w = w = Weights(table)
        self.size = len(batch["scene"])
        self.now = patches(2 * batch["scene"][:, :1] - 1, 8)
        self.past = scaled(w, "action", batch["action"])[:, :2]

    def both(self, future, action, later, time):
        own = self.w("both")
        parts = {
            "scene_now": self.now,
            "scene_future": future,
            "action_past": self.past,
            "action_future": action,
        }
        x = [linear(own(f"{name}_in"), part) for name, part in parts.items()]
        x = [places(own("registers_in"), self.size), *x]
        moments = [0.05 * step / 0.2 for step in range(-2, 8)]
        angles = [lead_angles([0.0, 1.0], 16), grid_angles(range(3), 16), lead_angles(moments, 16)]
        zero = torch.zeros_like(time)
        trunk = coded(own, 2, x, [zero, zero, later, zero, time], angles=torch.cat(angles))
        (out,) = run([trunk], full(24))
        frames = linear(own("scene_future_out"), out[:, 6:14])
        return frames, linear(own("action_future_out"), out[:, 16:])


def fractional(table, batch, generator):
    model = Timed(table, batch)
    future = patches(2 * batch["scene"][:, 1:] - 1, 8)
    action = scaled(model.w, "action", batch["action"])[:, 2:]
    later = uniform(model.size, generator)
    video_noise = normal(future.shape, generator)
    time = uniform(model.size, generator)
    noise = normal(action.shape, generator)
    noisy = mixed(future, video_noise, later), mixed(action, noise, time)
    frames, steps = model.both(*noisy, later, time)
    foresight = mean_square(frames, video_noise - future)
    act = mean_square(steps, noise - action)
    return {"loss": foresight + act, "foresight": foresight, "act": act}


LOSSES = {
    "fractional": fractional,
    "draws": draws,
    "unet": unet,
    "modulation": modulation,
    "beside": beside,
    "framewise": framewise,
    "paired": paired,
}
POLICIES = {
    "draws": draws_policy,
    "unet": unet_policy,
    "modulation": modulation_policy,
    "beside": beside_policy,
    "paired": paired_policy,
}
