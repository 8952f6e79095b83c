"""The paradigms written by hand: losses from weights and a batch, all in float64."""

import torch

from tests.cpu.reference.pieces import (
    Trunk,
    Weights,
    causal,
    conv_keypoints,
    line_angles,
    linear,
    masked_mean,
    patches,
    places,
    run,
    spread,
    text,
    time_code,
    tokens,
    unpatched,
    visible,
)

STRIDES, POINT_TOKENS, HEADS, PATCH, CHUNK = (4, 1), 4, 4, 16, 16
GIVEN = ("instruction", "corner", "wrist", "proprio")
ALL = (*GIVEN, "future", "action")


def scaled(w, batch):
    """The batch in the units of the module, and what the frozen part of it is made of."""
    video = {name: 2 * batch[name] - 1 for name in ("corner", "wrist")}
    proprio = (batch["proprio"] - w["proprio_mean"]) / w["proprio_scale"]
    action = (batch["action"] - w["action_mean"]) / w["action_scale"]
    return video["corner"][:, :1], video["corner"][:, 1:], video["wrist"], proprio, action


def valid_of(batch, name, window):
    found = batch.get(f"{name}.valid")
    return torch.ones(len(batch[name]), window, dtype=torch.bool) if found is None else found


def eyes(w, name, frames):
    return conv_keypoints(w(name), frames, STRIDES, POINT_TOKENS)


def uniform(size, generator):
    return torch.rand(size, 1, generator=generator, dtype=torch.float64)[:, 0]


def beta(size, generator):
    """0.001 + 0.999 Beta(1.5, 1), from two gamma draws."""
    shapes = torch.tensor([1.5, 1.0], dtype=torch.float64).expand(size, 1, 2)
    gamma = torch._standard_gamma(shapes, generator)
    return (0.001 + 0.999 * gamma[..., 0] / gamma.sum(dim=-1))[:, 0]


LAWS = {"future": uniform, "action": beta}


def normal(shape, generator):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def mixed(clean, noise, time):
    at = time[:, None, None]
    return (1 - at) * clean + at * noise


class Scene:
    """A batch with the draws of the flow, in the order in which the module draws them."""

    def __init__(self, table, batch, generator, draws):
        self.w = Weights(table)
        self.corner, self.future, self.wrist, self.proprio, self.action = scaled(self.w, batch)
        self.batch, size = batch, len(batch["corner"])
        self.zero = torch.zeros(size, dtype=torch.float64)
        self.targets = {"action": self.action}
        if self.future.shape[1]:
            self.targets["future"] = patches(self.future, PATCH)
        self.times, self.noise, self.noisy = {}, {}, {}
        for name in draws:
            self.times[name] = LAWS[name](size, generator)
            self.noise[name] = normal(self.targets[name].shape, generator)
            self.noisy[name] = mixed(self.targets[name], self.noise[name], self.times[name])

    def features(self):
        w = self.w
        return {
            "instruction": text(w("words"), self.batch["instruction"], 2),
            "corner": eyes(w, "eyes", self.corner),
            "wrist": eyes(w, "wrist_eyes", self.wrist),
            "proprio": self.proprio,
            **self.noisy,
        }

    def error(self, name, hidden, head):
        """Mean error of the predicted data over valid samples."""
        output = linear(head, hidden)
        return masked_mean((output - self.targets[name]) ** 2, self.valid(name))

    def valid(self, name):
        stream, window = (
            ("action", CHUNK) if name == "action" else ("corner", 1 + self.future.shape[1])
        )
        valid = valid_of(self.batch, stream, window)
        return valid[:, 1:] if name == "future" else valid


INWARD = {"corner": "corner_now_in", "future": "corner_future_in"}


def trunk_tokens(w, features, names):
    return {name: tokens(inward(w, name), features[name]) for name in names}


def inward(w, name):
    """What makes tokens of a group; a stream with one segment goes by its own name."""
    own = f"{name}_in"
    return w(own) if w.has(own) else w(INWARD[name])


def dit(scene, name, parts):
    """A trunk with its tokens and each token's own time."""
    w = scene.w(name)
    times = [scene.times.get(part, scene.zero) for part in parts]
    code = time_code(w("time"), spread(times, [x.shape[1] for x in parts.values()]))
    return Trunk(w, "dit", HEADS, torch.cat(list(parts.values()), 1), code)


def rows(queries):
    """Givens see givens; every query sees what it is said to see."""
    return {**dict.fromkeys(GIVEN, GIVEN), **queries}


def counts_of(parts):
    return {name: x.shape[1] for name, x in parts.items()}


def joint_loss(scene, trunks, queries):
    """Video and action by flow under one mask; `trunks` maps names to their groups."""
    features = scene.features()
    parts = {name: trunk_tokens(scene.w(name), features, groups) for name, groups in trunks.items()}
    counts = {group: n for part in parts.values() for group, n in counts_of(part).items()}
    outs = run(
        [dit(scene, name, part) for name, part in parts.items()], visible(counts, rows(queries))
    )
    hidden = {}
    for part, out in zip(parts.values(), outs, strict=True):
        hidden.update(zip(part, out.split([x.shape[1] for x in part.values()], 1), strict=True))
    owner = {group: scene.w(name) for name, groups in trunks.items() for group in groups}
    foresight = scene.error("future", hidden["future"], owner["future"]("corner_future_out"))
    act = scene.error("action", hidden["action"], owner["action"]("action_out"))
    return {"loss": 2 * foresight + act, "foresight": foresight, "act": act}


def mot(table, batch, generator):
    scene = Scene(table, batch, generator, ("future", "action"))
    trunks = {"seer": ("instruction", "corner", "wrist", "future"), "doer": ("proprio", "action")}
    return joint_loss(scene, trunks, {"future": ALL, "action": ALL})


def single_backbone(table, batch, generator):
    scene = Scene(table, batch, generator, ("future", "action"))
    return joint_loss(scene, {"backbone": ALL}, {"future": ALL, "action": ALL})


def no_world_model(table, batch, generator):
    scene = Scene(table, batch, generator, ("action",))
    parts = trunk_tokens(scene.w("policy"), scene.features(), (*GIVEN, "action"))
    mask = visible(counts_of(parts), rows({"action": (*GIVEN, "action")}))
    (out,) = run([dit(scene, "policy", parts)], mask)
    act = scene.error("action", out[:, -CHUNK:], scene.w("policy.action_out"))
    return {"loss": act, "act": act}


def latent(table, batch, generator):
    scene = Scene(table, batch, generator, ("action",))
    w, features = scene.w, scene.features()
    parts = trunk_tokens(w("policy"), features, GIVEN)
    parts["dream"] = places(w("policy.dream_in"), len(features["proprio"]))
    parts |= trunk_tokens(w("policy"), features, ("action",))
    mask = visible(
        counts_of(parts),
        rows({"dream": (*GIVEN, "dream"), "action": (*GIVEN, "dream", "action")}),
    )
    trunk = dit(scene, "policy", parts)
    (out,) = run([trunk], mask)
    act = scene.error("action", out[:, -CHUNK:], w("policy.action_out"))
    start = sum(parts[name].shape[1] for name in GIVEN)
    source = trunk.after[3][:, start : start + parts["dream"].shape[1]]
    guess = linear(w("foresight.2"), torch.nn.functional.gelu(linear(w("foresight.0"), source)))
    target = eyes(w, "foresight_teacher", scene.future).detach()
    distance = 1 - torch.nn.functional.cosine_similarity(guess, target, dim=-1)
    foresight = masked_mean(distance, scene.valid("future"))
    return {"loss": act + 0.5 * foresight, "act": act, "foresight": foresight}


def unified_vla(table, batch, generator):
    scene = Scene(table, batch, generator, ())
    w, features = scene.w("lm"), scene.features()
    size = len(features["proprio"])

    def projected(name):
        return linear(inward(w, name), features[name])

    parts = {name: projected(name) for name in GIVEN}
    parts["action"] = places(w("action_in"), size)
    parts["future"] = places(w("corner_future_in"), size)
    x = torch.cat(list(parts.values()), 1)
    angles = line_angles(x.shape[1], 32)
    trunk = Trunk(w, "decoder", HEADS, x, kv_heads=2, angles=angles)
    (out,) = run([trunk], causal(x.shape[1]))
    hidden = dict(zip(parts, out.split([part.shape[1] for part in parts.values()], 1), strict=True))
    errors = {}
    for name, head, power in (("action", "action_out", 1), ("future", "corner_future_out", 2)):
        wrong = (linear(w(head), hidden[name]) - scene.targets[name]).abs() ** power
        errors[name] = masked_mean(wrong, scene.valid(name))
    return {
        "loss": errors["action"] + 2 * errors["future"],
        "act": errors["action"],
        "foresight": errors["future"],
    }


def idm(table, batch, generator):
    scene = Scene(table, batch, generator, ("future",))
    w, features = scene.w, scene.features()
    groups = ("instruction", "corner", "proprio", "future")
    parts = trunk_tokens(w("dreamer"), features, groups)
    (out,) = run(
        [dit(scene, "dreamer", parts)], visible(counts_of(parts), dict.fromkeys(groups, groups))
    )
    foresight = scene.error(
        "future", out[:, -parts["future"].shape[1] :], w("dreamer.corner_future_out")
    )
    act, _ = inverse(scene, features, scene.future)
    return {"loss": 2 * foresight + act, "foresight": foresight, "act": act}


def inverse(scene, features, frames):
    """Error and output of the action read off frames."""
    w = scene.w
    own = w("inverse")
    x = torch.cat(
        [
            tokens(own("instruction_in"), features["instruction"]),
            tokens(own("corner_now_in"), eyes(w, "plan_eyes", scene.corner)),
            tokens(own("corner_future_in"), eyes(w, "plan_eyes", frames)),
            tokens(own("wrist_in"), features["wrist"]),
            tokens(own("proprio_in"), features["proprio"]),
            places(own("action_in"), len(features["proprio"])),
        ],
        1,
    )
    every = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)
    (out,) = run([Trunk(own, "vit", HEADS, x)], every)
    action = linear(own("action_out"), out[:, -CHUNK:])
    return masked_mean((action - scene.action).abs(), scene.valid("action")), action


LOSSES = {
    "mot": mot,
    "single_backbone": single_backbone,
    "no_world_model": no_world_model,
    "latent": latent,
    "unified_vla": unified_vla,
    "idm": idm,
}


def toward(data, x, step, steps):
    """One Euler step on the straight line from x to the data that it is said to end in."""
    now, then = 1 - step / steps, 1 - (step + 1) / steps
    velocity = (x - data) / now
    return x + (then - now) * velocity


def idm_policy(table, batch, generator, steps):
    """The chain: imagine the future by Euler steps, then read the action off it."""
    scene = Scene(table, batch, generator, ())
    w, features, size = scene.w, scene.features(), len(batch["corner"])
    x = normal(scene.targets["future"].shape, generator)
    groups = ("instruction", "corner", "proprio", "future")
    for step in range(steps):
        now = 1 - step / steps
        scene.times["future"] = torch.full((size,), now, dtype=torch.float64)
        parts = trunk_tokens(w("dreamer"), {**features, "future": x}, groups)
        mask = visible(counts_of(parts), dict.fromkeys(groups, groups))
        (out,) = run([dit(scene, "dreamer", parts)], mask)
        data = linear(w("dreamer.corner_future_out"), out[:, -x.shape[1] :])
        x = toward(data, x, step, steps)
    frames = unpatched(x, scene.future.shape[1:], PATCH)
    _, action = inverse(scene, features, frames)
    return action * w["action_scale"] + w["action_mean"]


def no_world_model_field(table, batch, generator):
    """The first noise, and what the network puts out for x at a time; then the data's units."""
    scene = Scene(table, batch, generator, ())
    w, features, size = scene.w, scene.features(), len(batch["corner"])
    noise = normal(scene.action.shape, generator)

    def output(x, time):
        scene.times["action"] = torch.full((size,), time, dtype=torch.float64)
        parts = trunk_tokens(w("policy"), {**features, "action": x}, (*GIVEN, "action"))
        mask = visible(counts_of(parts), rows({"action": (*GIVEN, "action")}))
        (out,) = run([dit(scene, "policy", parts)], mask)
        return linear(w("policy.action_out"), out[:, -CHUNK:])

    return noise, output, lambda x: x * w["action_scale"] + w["action_mean"]


def joint_field(table, batch, generator, trunks):
    """As `no_world_model_field`, for action and video denoised together; `trunks` as in
    `joint_loss`.  Times are numbers."""
    scene = Scene(table, batch, generator, ())
    w, features, size = scene.w, scene.features(), len(batch["corner"])
    noise = {name: normal(scene.targets[name].shape, generator) for name in ("action", "future")}
    mask = {"future": ALL, "action": ALL}

    def output(values, times):
        for name, time in times.items():
            scene.times[name] = torch.full((size,), time, dtype=torch.float64)
        parts = {
            name: trunk_tokens(w(name), {**features, **values}, groups)
            for name, groups in trunks.items()
        }
        counts = {group: n for part in parts.values() for group, n in counts_of(part).items()}
        outs = run([dit(scene, name, part) for name, part in parts.items()],
                   visible(counts, rows(mask)))  # fmt: skip
        hidden = {}
        for part, out in zip(parts.values(), outs, strict=True):
            hidden.update(zip(part, out.split([x.shape[1] for x in part.values()], 1), strict=True))
        owner = {group: w(name) for name, groups in trunks.items() for group in groups}
        return {
            "action": linear(owner["action"]("action_out"), hidden["action"]),
            "future": linear(owner["future"]("corner_future_out"), hidden["future"]),
        }

    def raw(values):
        frames = unpatched(values["future"], scene.future.shape[1:], PATCH)
        return {"action": values["action"] * w["action_scale"] + w["action_mean"],
                "corner": (frames + 1) / 2}  # fmt: skip

    return noise, output, raw


def no_world_model_policy(table, batch, generator, steps):
    x, data, raw = no_world_model_field(table, batch, generator)
    for step in range(steps):
        x = toward(data(x, 1 - step / steps), x, step, steps)
    return raw(x)


POLICIES = {"idm": idm_policy, "no_world_model": no_world_model_policy}
