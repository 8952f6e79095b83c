"""Plain float64 arithmetic of every mechanism, from weights by name; needs torch alone.

Nothing here shares code with the compiler: masks are dense boolean matrices, times are per token,
attention is an explicit softmax.  `w` are the weights of a module by name.
"""

import math

import torch
from torch.nn import functional


class Weights:
    """Weights below a prefix: `w("seer.time")("layers.0.weight")`."""

    def __init__(self, table, prefix=""):
        self.table, self.prefix = table, prefix

    def __call__(self, name):
        return Weights(self.table, f"{self.prefix}{name}.")

    def __getitem__(self, name):
        return self.table[self.prefix + name]

    def has(self, name):
        return any(key.startswith(self.prefix + name) for key in self.table)

    def count(self):
        """How many numbered children there are."""
        rest = [key[len(self.prefix) :] for key in self.table if key.startswith(self.prefix)]
        return 1 + max(int(key.split(".")[0]) for key in rest)


def linear(w, x):
    y = x @ w["weight"].T
    if w.has("down"):
        y = y + x @ w["down.weight"].T @ w["up.weight"].T
    return y + w["bias"] if w.has("bias") else y


def standardised(x, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(((x - mean) ** 2).mean(-1, keepdim=True) + eps)


def layer_norm(w, x):
    return standardised(x) * w["weight"] + w["bias"]


def rms(x, weight, axes=(-1,)):
    return x / torch.sqrt((x**2).mean(axes, keepdim=True) + 1e-6) * weight


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1 + torch.exp(-x))


def softmax_attention(query, key, value, mask):
    """[B, T, H, K] over keys [B, S, G, K] where mask [T, S] is true."""
    share = query.shape[2] // key.shape[2]
    key, value = (x.repeat_interleave(share, dim=2) for x in (key, value))
    scores = torch.einsum("bthk,bshk->bhts", query, key) / math.sqrt(query.shape[-1])
    scores = scores.masked_fill(~mask, -math.inf)
    return torch.einsum("bhts,bshk->bthk", scores.softmax(-1), value)


def visible(counts, rows):
    """The mask of groups laid end to end: `rows` maps a group to the groups that it sees."""
    names = [name for name, count in counts.items() for _ in range(count)]
    return torch.tensor([[key in rows[query] for key in names] for query in names])


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


# Tokens


def tokens(w, x):
    """Projection and learned places."""
    return linear(w("projection"), x) + w["places"]


def places(w, batch):
    return w["places"].unsqueeze(0).repeat(batch, 1, 1)


def symbols(w, index):
    return w["table.weight"][index] + w["places"]


def time_code(w, time):
    """Times [B, T] -> codes [B, T, W]."""
    rates = 1000 * torch.exp(-math.log(10000) * torch.arange(128) / 128)
    angles = time[..., None] * rates.to(time.dtype)
    x = torch.cat([torch.cos(angles), torch.sin(angles)], -1)
    return linear(w("layers.2"), silu(linear(w("layers.0"), x)))


def patches(x, size):
    """Frames [B, F, C, H, W] -> [B, F * rows * columns, C * size * size], pixel by pixel."""
    batch, frames, _, height, width = x.shape
    found = [
        x[:, frame, :, row : row + size, column : column + size].reshape(batch, -1)
        for frame in range(frames)
        for row in range(0, height, size)
        for column in range(0, width, size)
    ]
    return torch.stack(found, 1)


def unpatched(x, shape, size):
    frames, channels, height, width = shape
    out = torch.zeros(x.shape[0], *shape, dtype=x.dtype)
    index = 0
    for frame in range(frames):
        for row in range(0, height, size):
            for column in range(0, width, size):
                patch = x[:, index].reshape(-1, channels, size, size)
                out[:, frame, :, row : row + size, column : column + size] = patch
                index += 1
    return out


# Codecs


def group_norm(w, x, groups):
    parts = x.reshape(x.shape[0], groups, -1)
    return (
        standardised(parts).reshape(x.shape) * w["weight"][:, None, None] + w["bias"][:, None, None]
    )


def conv_maps(w, x, strides):
    """Stages of convolution, group norm and SiLU over frames [N, C, H, W]."""
    for stage, stride in enumerate(strides):
        conv = w(f"layers.{3 * stage}")
        pad = (conv["weight"].shape[-1] - stride + 1) // 2
        x = functional.conv2d(x, conv["weight"], conv["bias"], stride=stride, padding=pad)
        x = silu(group_norm(w(f"layers.{3 * stage + 1}"), x, math.gcd(8, x.shape[1])))
    return x


def conv_grid(w, x, strides):
    maps = conv_maps(w, x.flatten(0, 1), strides)
    return maps.permute(0, 2, 3, 1).reshape(x.shape[0], -1, maps.shape[1])


def conv_keypoints(w, x, strides, count):
    maps = conv_maps(w, x.flatten(0, 1), strides)
    points = functional.conv2d(maps, w["points.weight"], w["points.bias"])
    read = []
    for axis, size in ((2, maps.shape[2]), (3, maps.shape[3])):
        share = points.flatten(2).softmax(-1).reshape(points.shape)
        at = torch.linspace(-1, 1, size, dtype=x.dtype)
        shape = [1, 1, 1, 1]
        shape[axis] = size
        read.append((share * at.reshape(shape)).sum((2, 3)))
    small = functional.conv2d(maps, w["shrink.0.weight"], w["shrink.0.bias"], stride=2, padding=1)
    read.append(silu(group_norm(w("shrink.1"), small, 8)).flatten(1))
    out = linear(w("outward"), torch.cat(read, 1))
    return out.reshape(x.shape[0], x.shape[1] * count, -1)


def text(w, index, heads):
    """One sample after the other, its padding cut off."""
    return torch.stack([_one_text(w, sample, heads) for sample in index])


def _one_text(w, index, heads):
    kept = torch.nonzero(index)[:, 0]
    x = (w["table.weight"][index[kept]] + w["places"][kept])[None]
    everything = torch.ones(len(kept), len(kept), dtype=torch.bool)
    for layer in range(w("blocks").count() if w.has("blocks") else 0):
        block = w(f"blocks.{layer}")
        query, key, value = projected(
            block("heads"), layer_norm(block("heads_norm"), x), heads, heads
        )
        mixed = softmax_attention(query, key, value, everything)
        x = x + linear(block("heads.outward"), mixed.flatten(2))
        x = x + linear(
            block("ffn.2"), gelu(linear(block("ffn.0"), layer_norm(block("ffn_norm"), x)))
        )
    x = layer_norm(w("norm"), x)[0]
    return linear(w("scores"), x).softmax(0).T @ x


# Trunks


def projected(w, x, heads, kv_heads):
    """Query, key and value, from the rows of the one matrix that holds all three."""
    size = w["inward.weight"].shape[0] // (heads + 2 * kv_heads)
    y = linear(w("inward"), x).reshape(*x.shape[:2], heads + 2 * kv_heads, size)
    query, key, value = (
        y[:, :, :heads],
        y[:, :, heads : heads + kv_heads],
        y[:, :, heads + kv_heads :],
    )
    if w.has("query_norm"):
        axes = (-1,) if w["query_norm.weight"].ndim == 1 else (-2, -1)
        query, key = rms(query, w["query_norm.weight"], axes), rms(key, w["key_norm.weight"], axes)
    return query, key, value


def turned(x, angles):
    """Each pair (k, k + K / 2) as a complex number, times exp(i angle)."""
    half = x.shape[-1] // 2
    numbers = torch.complex(x[..., :half], x[..., half:])
    spun = numbers * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat([spun.real, spun.imag], -1)


def line_angles(count, size):
    rates = 10000.0 ** (-torch.arange(0, size, 2) / size)
    return torch.outer(torch.arange(count), rates).double()


class Trunk:
    """Tokens of one trunk on their way through its blocks."""

    def __init__(self, w, kind, heads, x, code=None, kv_heads=None, angles=None, reads=()):
        self.w, self.kind, self.heads, self.x, self.code = w, kind, heads, x, code
        self.kv_heads, self.angles, self.reads = kv_heads or heads, angles, reads
        self.after = [x]

    def modulation(self, block):
        own = block("adaln")
        if own.has("table"):
            numbers = linear(self.w("shared.1"), silu(self.code)) + own["table"]
        else:
            numbers = linear(own("1"), silu(self.code))
            numbers = linear(own("2"), numbers) if own.has("2") else numbers
        return numbers.chunk(6, -1)

    def norm(self, block, which, numbers):
        if self.kind == "dit":
            return standardised(self.x) * (1 + numbers[1]) + numbers[0]
        if self.kind == "vit":
            return layer_norm(block(which), self.x)
        return rms(self.x, block[f"{which}.weight"])

    def project(self, layer):
        block = self.w(f"blocks.{layer}")
        numbers = self.modulation(block)[:3] if self.kind == "dit" else None
        heads = projected(
            block("heads"), self.norm(block, "heads_norm", numbers), self.heads, self.kv_heads
        )
        if self.angles is None:
            return heads
        return turned(heads[0], self.angles), turned(heads[1], self.angles), heads[2]

    def finish(self, layer, mixed):
        block = self.w(f"blocks.{layer}")
        numbers = self.modulation(block) if self.kind == "dit" else None
        change = linear(block("heads.outward"), mixed.flatten(2))
        self.x = self.x + (numbers[2] * change if numbers else change)
        for read in self.reads:
            self.x = read(layer, self.x)
        x = self.norm(block, "ffn_norm", numbers[3:] if numbers else None)
        if self.kind == "dit":
            self.x = self.x + numbers[5] * linear(
                block("ffn.2"), gelu_tanh(linear(block("ffn.0"), x))
            )
        elif self.kind == "vit":
            self.x = self.x + linear(block("ffn.2"), gelu(linear(block("ffn.0"), x)))
        else:
            inner = silu(linear(block("ffn.gate"), x)) * linear(block("ffn.value"), x)
            self.x = self.x + linear(block("ffn.outward"), inner)
        self.after.append(self.x)

    def out(self):
        """Behind the final norm."""
        if self.kind == "dit":
            shift, scale = linear(self.w("norm.adaln.1"), silu(self.code)).chunk(2, -1)
            return standardised(self.x) * (1 + scale) + shift
        if self.kind == "vit":
            return layer_norm(self.w("norm"), self.x)
        return rms(self.x, self.w["norm.weight"])


def run(trunks, mask, layers=None):
    """Joint attention of trunks as one sequence; returns what is behind each final norm."""
    for layer in range(layers or trunks[0].w("blocks").count()):
        parts = list(zip(*(trunk.project(layer) for trunk in trunks), strict=True))
        mixed = softmax_attention(*(torch.cat(part, 1) for part in parts), mask)
        start = 0
        for trunk in trunks:
            length = trunk.x.shape[1]
            trunk.finish(layer, mixed[:, start : start + length])
            start += length
    return [trunk.out() for trunk in trunks]


def reader(w, source, heads, kv_heads, layers):
    """Cross-attention in the listed blocks."""

    def read(layer, x):
        if layer not in layers:
            return x
        own = w(str(layer))
        size = own["query.weight"].shape[0] // heads
        query = linear(own("query"), layer_norm(own("norm"), x)).reshape(*x.shape[:2], heads, size)
        pair = linear(own("key_value"), source).reshape(*source.shape[:2], 2 * kv_heads, size)
        every = torch.ones(x.shape[1], source.shape[1], dtype=torch.bool)
        mixed = softmax_attention(query, pair[:, :, :kv_heads], pair[:, :, kv_heads:], every)
        change = linear(own("outward"), mixed.flatten(2))
        return x + (own["gate"] * change if own.has("gate") else change)

    return read


# Losses


def masked_mean(error, valid):
    """Errors [B, T, ...] of valid samples [B, N], one sample being T / N tokens."""
    total, count = 0.0, 0
    each = error.shape[1] // valid.shape[1]
    for sample in range(valid.shape[0]):
        for step in range(valid.shape[1]):
            if valid[sample, step]:
                total = total + error[sample, step * each : (step + 1) * each].mean()
                count += 1
    return total / max(count, 1) + 0 * error.sum()


def spread(times, counts):
    """One time per group [B] (or per token [B, n]) -> times per token [B, T]."""
    parts = [
        time[:, None].repeat(1, count) if time.ndim == 1 else time
        for time, count in zip(times, counts, strict=True)
    ]
    return torch.cat(parts, 1)
