"""The spec `indices` by hand: hashed words, codes of a frozen book, bins between markers."""

import torch

from tests.cpu.reference.paradigms import mixed, normal, uniform
from tests.cpu.reference.pieces import (
    Trunk,
    Weights,
    causal,
    line_angles,
    linear,
    masked_mean,
    patches,
    run,
    spread,
    time_code,
    unpatched,
)
from tests.cpu.reference.pretrained import angles_of, decode, encode, unit

STAGES = ((1, 2, 2), (1, 2, 2))
CELLS = [(frame, row, column) for frame in (0, 0) for row in (0, 1) for column in (0, 1)]


def words(text):
    """Runs of three bytes as digits of base 257, modulo 39."""
    found = torch.zeros(len(text), 4, dtype=torch.long)
    for sample, line in enumerate(text.tolist()):
        line += [0, 0]
        for run_ in range(4):
            digits = line[3 * run_ : 3 * run_ + 3]
            if any(digits):
                number = (digits[0] * 257 + digits[1]) * 257 + digits[2]
                found[sample, run_] = 1 + number % 39
    return found


def codes_of(w):
    return unit(w["codes"])


def book(w, frame):
    """Six cells, 2 rows x 3 columns, of a map of 4 x 4; the nearest code of each."""
    latent = encode(w("coder"), frame, STAGES, 1)[:, 0]
    found = []
    for top, bottom in ((0, 2), (2, 4)):
        for left, right in ((0, 2), (1, 3), (2, 4)):
            cell = latent[:, :, top:bottom, left:right].mean((2, 3))
            away = ((cell[:, None] - codes_of(w)) ** 2).sum(-1)
            found.append(away.argmin(1))
    return torch.stack(found, 1)


def frames(w, index):
    cells = codes_of(w)[index].reshape(len(index), 2, 3, -1)
    wide = torch.stack([cells[:, :, at * 3 // 4] for at in range(4)], 2)
    maps = torch.stack([wide[:, at * 2 // 4] for at in range(4)], 1)
    return decode(w("coder"), maps.permute(0, 3, 1, 2)[:, None], STAGES, 1)


def bins(x):
    """Eight bins of -3..3, two markers in front of a step and one behind it."""
    steps = []
    for step in range(x.shape[1]):
        number = torch.floor((x[:, step] + 3) / 6 * 8).clamp(0, 7).long()
        marks = [torch.full_like(number[:, :1], mark) for mark in (8, 9, 10)]
        steps.append(torch.cat([marks[0], marks[1], number, marks[2]], 1))
    return torch.cat(steps, 1)


def filled(x):
    """Numbers over and over until the 2 x 4 x 4 cells are full."""
    numbers = x.flatten(1)
    cells = torch.cat([numbers] * 32, 1)[:, :32]
    return patches(cells.reshape(len(x), 1, 2, 4, 4), 2)


class Indices:
    def __init__(self, table, batch):
        self.w = Weights(table)
        self.table, self.batch = table, batch

    def numbers(self, name):
        return (self.batch[name] - self.table[f"{name}_mean"]) / self.table[f"{name}_scale"]

    def lm(self, *groups):
        """Logits of the tokens behind each of the given groups of indices."""
        w = self.w("lm")
        names = ("text", "scene_now", "action", "scene_future")
        parts = [
            w[f"{name}_in.weight"][index]
            for name, index in zip(names, groups, strict=False)
        ]
        x = torch.cat(parts, 1)
        (out,) = run(
            [Trunk(w, "decoder", 2, x, angles=line_angles(x.shape[1], 12))], causal(x.shape[1])
        )
        return out

    def side(self, reach, time):
        w = self.w("side")
        body = linear(w("body_in"), filled(self.numbers("body")))
        x = torch.cat([body, linear(w("reach_in"), reach)], 1)
        code = time_code(w("time"), spread([torch.zeros_like(time), time], [4, 4]))
        trunk = Trunk(w, "dit", 2, x, code, angles=angles_of(CELLS, 12))
        (out,) = run([trunk], torch.ones(8, 8).bool())
        return linear(w("reach_out"), out[:, 4:])


def nats(logits, index):
    return -logits.log_softmax(-1).gather(2, index[..., None])[..., 0]


def indices(table, batch, generator):
    model = Indices(table, batch)
    size = len(batch["scene"])
    scene = 2 * batch["scene"] - 1
    now, future = book(model.w("book"), scene[:, :1]), book(model.w("book"), scene[:, 1:])
    action, reach = bins(model.numbers("action")), filled(model.numbers("reach"))
    time = uniform(size, generator)
    noise = normal(reach.shape, generator)
    out = model.lm(words(batch["text"]), now, action, future)
    own = model.w("lm")
    valid = torch.ones(size, 1).bool()
    terms = {
        "next": masked_mean(nats(linear(own("scene_future_out"), out[:, 21:27]), future), valid),
        "act": masked_mean(nats(linear(own("action_out"), out[:, 9:21]), action), valid),
        "fill": masked_mean(
            (model.side(mixed(reach, noise, time), time) - (noise - reach)) ** 2, valid
        ),
    }
    return {"loss": sum(terms.values()), **terms}


def indices_answers(table, batch, generator, steps):
    """Actions and the next frame token by token, then the numbers read out of a latent frame."""
    model = Indices(table, batch)
    size = len(batch["scene"])
    now = book(model.w("book"), 2 * batch["scene"][:, :1] - 1)
    text, own = words(batch["text"]), model.w("lm")
    found = {}
    action = torch.zeros(size, 12, dtype=torch.long)
    for token in range(12):
        logits = linear(own("action_out"), model.lm(text, now, action)[:, 9 + token])
        action[:, token] = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    numbers = action.reshape(size, 2, 6)[:, :, 2:5].clamp(max=7)
    middles = -3 + (numbers + 0.5) * 0.75
    found["action"] = middles * table["action_scale"] + table["action_mean"]
    future = torch.zeros(size, 6, dtype=torch.long)
    given = bins(model.numbers("action"))
    for token in range(6):
        logits = model.lm(text, now, given, future)[:, 21 + token]
        logits = linear(own("scene_future_out"), logits)
        future[:, token] = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    found["scene"] = ((frames(model.w("book"), future) + 1) / 2).clamp(0, 1)
    reach = normal((size, 4, 8), generator)
    for step in range(steps):
        time = torch.full((size,), 1 - step / steps, dtype=torch.float64)
        reach = reach - model.side(reach, time) / steps
    cells = unpatched(reach, (1, 2, 4, 4), 2).flatten(1)
    means = torch.stack([cells[:, at::6].mean(1) for at in range(6)], 1).reshape(size, 2, 3)
    found["reach"] = means * table["reach_scale"] + table["reach_mean"]
    return found
