"""The spec `pretrained` by hand: stand-ins of pretrained codecs, frame after frame."""

import torch
from torch.nn import functional

from tests.cpu.reference.paradigms import mixed, normal, uniform
from tests.cpu.reference.pieces import (
    Trunk,
    Weights,
    linear,
    masked_mean,
    patches,
    reader,
    run,
    silu,
    spread,
    text,
    time_code,
    tokens,
    unpatched,
)


def causal_conv(w, x, strides):
    """Output frame after output frame: sums of 2D convolutions of the frames up to its last."""
    kernel = w["weight"]
    time, *sides = strides
    around = [kernel.shape[axis] - stride for axis, stride in zip((4, 3), sides[::-1], strict=True)]
    pad = [part for total in around for part in ((total + 1) // 2, total // 2)]
    frames = [functional.pad(x[:, :, frame], pad) for frame in range(x.shape[2])]
    nothing = torch.zeros_like(frames[0])
    found = []
    for last in range(time - 1, len(frames), time):
        reach = range(last - kernel.shape[2] + 1, last + 1)
        seen = [frames[frame] if frame >= 0 else nothing for frame in reach]
        parts = [
            functional.conv2d(frame, kernel[:, :, place], stride=tuple(sides))
            for place, frame in enumerate(seen)
        ]
        found.append(sum(parts) + w["bias"][:, None, None])
    return torch.stack(found, 2)


def unit(x):
    return x / torch.sqrt((x**2).mean(1, keepdim=True))


def residual(w, x):
    return x + causal_conv(w("layer"), silu(w["scale"] * unit(x)), (1, 1, 1))


def filled(x, group):
    """The first frame repeated in front."""
    while x.shape[1] % group:
        x = torch.cat([x[:, :1], x], 1)
    return x


def encode(w, x, strides, group):
    """[B, F, C, H, W] -> latents [B, T, C, H, W]."""
    x = filled(x, group).transpose(1, 2)
    for stage, stride in enumerate(strides):
        x = causal_conv(w(f"encoder.{2 * stage}"), x, stride)
        x = residual(w(f"encoder.{2 * stage + 1}"), x)
    x = causal_conv(w(f"encoder.{2 * len(strides)}"), x, (1, 1, 1))
    return unit(x).transpose(1, 2)


def decode(w, z, strides, frames):
    x = causal_conv(w("decoder.0"), z.transpose(1, 2), (1, 1, 1))
    for at, stride in enumerate(reversed(strides)):
        x = residual(w(f"decoder.{3 * at + 1}"), x)
        x = x.repeat_interleave(stride[0], 2)
        x = functional.interpolate(x, scale_factor=(1, stride[1], stride[2]), mode="nearest")
        x = causal_conv(w(f"decoder.{3 * at + 3}"), x, (1, 1, 1))
    return x.transpose(1, 2)[:, x.shape[2] - frames :]


def vit_cells(w, x, cell, heads):
    """Cells [B, T, cells, W] of groups that attend alone, or together where places say so."""
    x = filled(x, cell[0])
    kernel, groups = w["cells.weight"], range(0, x.shape[1], cell[0])
    together = len(w["places"]) > 1
    found = []
    for at, group in enumerate(groups):
        pieces = []
        for row in range(0, x.shape[3], cell[1]):
            for column in range(0, x.shape[4], cell[2]):
                cube = x[:, group : group + cell[0], :, row : row + cell[1]]
                cube = cube[..., column : column + cell[2]].transpose(1, 2)
                value = torch.einsum("bctyx,wctyx->bw", cube, kernel) + w["cells.bias"]
                pieces.append(value)
        found.append(torch.stack(pieces, 1) + w["places"][at if together else 0])
    clips = [torch.cat(found, 1)] if together else found
    done = []
    for clip in clips:
        (out,) = run(
            [Trunk(w, "vit", heads, clip)], torch.ones(clip.shape[1], clip.shape[1]).bool()
        )
        done.append(out)
    return torch.cat(done, 1).reshape(x.shape[0], len(found), -1, kernel.shape[0])


def runs_of_cells(cells, count):
    """Means of runs that share the cells out, [B, T * count, W]."""
    found = []
    for group in range(cells.shape[1]):
        size = cells.shape[2]
        for run_ in range(count):
            low, high = run_ * size // count, -(-(run_ + 1) * size // count)
            found.append(cells[:, group, low:high].mean(1))
    return torch.stack(found, 1)


VIDEO = ((1, 2, 2), (2, 2, 2))
IMAGE = ((1, 2, 2), (1, 2, 2), (1, 2, 2))


def angles_of(places, size):
    pairs = size // 2
    side = pairs // 3
    found = []
    for axis, count in enumerate((pairs - 2 * side, side, side)):
        rates = 10000.0 ** (-torch.arange(count) / count)
        found.append(torch.outer(torch.tensor(places).float()[:, axis], rates))
    return torch.cat(found, 1).double()


SCENE = [(frame, row, column) for frame in range(4) for row in (0, 1) for column in (0, 1)]
WRIST = [(frame, row, column) for frame in range(2) for row in (0, 1) for column in (0, 1)]


class Pretrained:
    """Codecs and trunks for given noisy tokens."""

    def __init__(self, table, batch):
        self.w = w = Weights(table)
        self.scene, self.wrist = 2 * batch["scene"] - 1, 2 * batch["wrist"] - 1
        self.batch = batch
        self.words = text(w("words"), batch["text"], 2)
        phrase = text(w("phrase"), batch["text"], 1)
        self.repeated = torch.stack([phrase[:, 0], phrase[:, 0], phrase[:, 1], phrase[:, 1]], 1)

    def latents(self):
        """Tokens of the scene (2 groups now, 2 ahead) and of the wrist (1 and 1)."""
        scene = patches(encode(self.w("vae"), self.scene, VIDEO, 2), 2)
        wrist = torch.cat(
            [self.stills(self.wrist[:, :2]), self.stills(self.wrist[:, 2:])], 1
        )
        return scene, wrist

    def stills(self, frames):
        """Two frames make one token per cell, channels of the earlier one first."""
        z = encode(self.w("still"), frames, IMAGE, 1)
        return patches(torch.cat([z[:, 0], z[:, 1]], 1)[:, None], 1)

    def seer(self, scene, wrist, scene_time, wrist_time):
        w = self.w("seer")
        zero = torch.zeros_like(scene_time)
        parts = [
            linear(w("scene_now_in"), scene[:, :8]),
            linear(w("scene_future_in"), scene[:, 8:]),
            linear(w("wrist_now_in"), wrist[:, :4]),
            linear(w("wrist_future_in"), wrist[:, 4:]),
        ]
        times = spread([zero, scene_time, zero, wrist_time], [8, 8, 4, 4])
        hear = reader(self.w("hear"), self.repeated, 2, 2, {0, 1})
        trunk = Trunk(
            w, "dit", 2, torch.cat(parts, 1), time_code(w("time"), times),
            angles=angles_of(SCENE + WRIST, 12), reads=[hear],
        )  # fmt: skip
        (out,) = run([trunk], torch.ones(24, 24).bool())
        scene, wrist = out[:, 8:16], out[:, 20:]
        return linear(w("scene_future_out"), scene), linear(w("wrist_future_out"), wrist)

    def doer(self, action, time):
        w, now = self.w("doer"), self.scene[:, :3]
        eyes = runs_of_cells(vit_cells(self.w("eyes"), now, (1, 8, 8), 1), 3)
        maps = vit_cells(self.w("clip"), now, (2, 8, 8), 1)
        pairs = maps.reshape(len(now), 2, 2, 2, 8)  # rows, columns of one patch each
        watched = pairs.transpose(-1, -2).reshape(len(now), 4, 16)
        reads = [
            reader(self.w("look"), eyes, 2, 2, {0, 1}),
            reader(self.w("watch"), watched, 2, 2, {0, 1}),
        ]
        x = torch.cat([tokens(w("text_in"), self.words), tokens(w("action_in"), action)], 1)
        code = time_code(w("time"), spread([torch.zeros_like(time), time], [3, 4]))
        (out,) = run([Trunk(w, "dit", 2, x, code, reads=reads)], torch.ones(7, 7).bool())
        return linear(w("action_out"), out[:, 3:])


def pretrained(table, batch, generator):
    model = Pretrained(table, batch)
    size = len(batch["scene"])
    scene, wrist = model.latents()
    action = (batch["action"] - table["action_mean"]) / table["action_scale"]
    noises, times = [], []
    for wanted in (scene[:, 8:], wrist[:, 4:], action):
        times.append(uniform(size, generator))
        noises.append(normal(wanted.shape, generator))
    noisy_scene = mixed(scene[:, 8:], noises[0], times[0])
    noisy_wrist = mixed(wrist[:, 4:], noises[1], times[1])
    seen, touched = model.seer(
        torch.cat([scene[:, :8], noisy_scene], 1), torch.cat([wrist[:, :4], noisy_wrist], 1),
        times[0], times[1],
    )  # fmt: skip
    done = model.doer(mixed(action, noises[2], times[2]), times[2])
    terms = {}
    outputs, wanted = (seen, touched, done), (scene[:, 8:], wrist[:, 4:], action)
    counts = (2, 1, 4)
    for name, out, noise, clean, n in zip(
        ("foresight", "touch", "act"), outputs, noises, wanted, counts, strict=True
    ):
        error = (out - (noise - clean)) ** 2
        terms[name] = masked_mean(error, torch.ones(size, n).bool())
    return {"loss": sum(terms.values()), **terms}


def pretrained_passive(table, batch, generator, steps):
    """The futures of both cameras in 0..1."""
    model = Pretrained(table, batch)
    size = len(batch["scene"])
    model.scene, model.wrist = model.scene[:, :3], model.wrist[:, :2]
    seen = patches(encode(model.w("vae"), model.scene, VIDEO, 2), 2)
    touched = model.stills(model.wrist)
    scene = normal((size, 8, 12), generator)
    wrist = normal((size, 4, 4), generator)
    for step in range(steps):
        time = torch.full((size,), 1 - step / steps, dtype=torch.float64)
        one, two = model.seer(
            torch.cat([seen, scene], 1), torch.cat([touched, wrist], 1), time, time
        )
        scene, wrist = scene - one / steps, wrist - two / steps
    z = unpatched(torch.cat([seen, scene], 1), (4, 3, 4, 4), 2)
    frames = decode(model.w("vae"), z, VIDEO, 4)
    still = unpatched(wrist, (1, 4, 2, 2), 1)
    still = torch.stack([still[:, 0, :2], still[:, 0, 2:]], 1)
    return {
        "scene": ((frames + 1) / 2).clamp(0, 1),
        "wrist": ((decode(model.w("still"), still, IMAGE, 2) + 1) / 2).clamp(0, 1),
    }
