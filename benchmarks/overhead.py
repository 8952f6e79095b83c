"""What the compiler costs: a training step of the emitted module against a hand-written one.

    python benchmarks/overhead.py [--pairs N] [--batch N] [--json FILE]

Both modules hold the same weights and are checked to give the same loss before anything is timed.
Steps are interleaved in one process and one thread and timed in processor time; the ratio of each
pair is reported with its spread, so that a busy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import wmdsl

SPEC = Path(__file__).with_name("size_s.wm")
GOAL = 1.05
WARM_UP = 5


class Expert(nn.Module):
    """Weights of one block of one expert."""

    def __init__(self, width: int, heads: int, head_dim: int, ffn: int):
        super().__init__()
        self.head_dim = head_dim
        self.adaln = nn.Linear(width, 6 * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * heads * head_dim)
        self.out = nn.Linear(heads * head_dim, width)
        self.up = nn.Linear(width, ffn)
        self.down = nn.Linear(ffn, width)

    def numbers(self, code, lengths):
        """Shift, scale and gate twice, each [B, T, W] or [B, 1, W]."""
        rows = self.adaln(functional.silu(code))
        if len(lengths) > 1:
            parts = zip(rows.split(1, dim=1), lengths, strict=True)
            rows = torch.cat([row.expand(-1, length, -1) for row, length in parts], dim=1)
        return rows.chunk(6, dim=-1)

    def project(self, x, numbers):
        x = self.norm(x) * (1 + numbers[1]) + numbers[0]
        batch, length, _ = x.shape
        return self.qkv(x).view(batch, length, 3, -1, self.head_dim).unbind(2)

    def finish(self, x, mixed, numbers):
        x = x + numbers[2] * self.out(mixed)
        y = self.norm(x) * (1 + numbers[4]) + numbers[3]
        return x + numbers[5] * self.down(functional.gelu(self.up(y), approximate="tanh"))


class Clock(nn.Module):
    """Sinusoids of a time through two layers."""

    def __init__(self, width: int):
        super().__init__()
        rates = 1000 * torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(128) / 128)
        self.register_buffer("rates", rates, persistent=False)
        self.first, self.second = nn.Linear(256, width), nn.Linear(width, width)

    def forward(self, time):
        angles = time[..., None] * self.rates
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.second(functional.silu(self.first(waves)))


class Words(nn.Module):
    """The text encoder, one layer."""

    def __init__(self, length: int, width: int, tokens: int):
        super().__init__()
        self.table = nn.Embedding(257, width)
        self.places = nn.Parameter(torch.zeros(length, width))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scores = nn.Linear(width, tokens, bias=False)

    def forward(self, index):
        hidden = (index == 0) * -1e9
        x = self.table(index) + self.places
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, width // 32, 32)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mask = hidden[:, None, None].to(x.dtype)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        x = x + self.down(functional.gelu(self.up(self.norm2(x))))
        x = self.norm3(x)
        return (self.scores(x) + hidden[..., None]).softmax(dim=1).transpose(1, 2) @ x


class HandWritten(nn.Module):
    """Size s as one writes it by hand: one file, no compiler."""

    def __init__(self, layers=6, width=256, heads=2, head_dim=128, ffn=1024):
        super().__init__()
        self.words = Words(32, 64, 8)
        self.text_in, self.video_in = nn.Linear(64, width), nn.Linear(768, width)
        self.action_in = nn.Linear(7, width)
        self.text_at, self.video_at, self.action_at = (
            nn.Parameter(torch.zeros(count, width)) for count in (8, 64, 12)
        )
        self.video_clock, self.action_clock = Clock(width), Clock(width)
        self.video = nn.ModuleList([Expert(width, heads, head_dim, ffn) for _ in range(layers)])
        self.action = nn.ModuleList([Expert(width, heads, head_dim, ffn) for _ in range(layers)])
        self.video_last, self.action_last = (nn.Linear(width, 2 * width) for _ in range(2))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.video_out, self.action_out = nn.Linear(width, 768), nn.Linear(width, 7)
        mask = torch.zeros(84, 84, dtype=torch.bool)
        mask[:8, :8] = mask[8:72, :72] = mask[72:] = True
        self.register_buffer("mask", mask, persistent=False)

    def loss(self, batch, generator=None):
        video, action = 2 * batch["scene"] - 1, batch["action"]
        size = len(video)
        video = video.view(size, 4, 3, 4, 16, 4, 16).permute(0, 1, 3, 5, 2, 4, 6)
        video = video.reshape(size, 64, 768)
        video_time = torch.rand(size, 1, generator=generator)
        video_noise = torch.randn(video.shape, generator=generator)
        action_time = torch.rand(size, 1, generator=generator)
        action_noise = torch.randn(action.shape, generator=generator)
        noisy_video = torch.lerp(video, video_noise, video_time[..., None])
        noisy_action = torch.lerp(action, action_noise, action_time[..., None])
        text = self.text_in(self.words(batch["text"])) + self.text_at
        x = torch.cat([text, self.video_in(noisy_video) + self.video_at], dim=1)
        y = self.action_in(noisy_action) + self.action_at
        clean = torch.zeros_like(video_time)
        code = self.video_clock(torch.cat([clean, video_time], dim=1))
        x, y = self.blocks(x, y, code, self.action_clock(action_time))
        video_error = (self.video_out(x[:, 8:]) - (video_noise - video)).square().mean()
        action_error = (self.action_out(y) - (action_noise - action)).square().mean()
        return {"loss": video_error + action_error}

    def blocks(self, x, y, x_code, y_code):
        lengths = 8, 64
        for left, right in zip(self.video, self.action, strict=True):
            x_numbers, y_numbers = left.numbers(x_code, lengths), right.numbers(y_code, (12,))
            x_heads, y_heads = left.project(x, x_numbers), right.project(y, y_numbers)
            query, key, value = (
                torch.cat(pair, dim=1).transpose(1, 2)
                for pair in zip(x_heads, y_heads, strict=True)
            )
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=self.mask)
            mixed = mixed.transpose(1, 2).flatten(2)
            x = left.finish(x, mixed[:, :72], x_numbers)
            y = right.finish(y, mixed[:, 72:], y_numbers)
        return self.last(x, self.video_last, x_code, lengths), self.last(
            y, self.action_last, y_code, (12,)
        )

    def last(self, x, linear, code, lengths):
        rows = linear(functional.silu(code))
        parts = zip(rows.split(1, dim=1), lengths, strict=True)
        rows = torch.cat([row.expand(-1, length, -1) for row, length in parts], dim=1)
        shift, scale = rows.chunk(2, dim=-1)
        return self.norm(x) * (1 + scale) + shift


def adopt(hand: HandWritten, emitted: nn.Module) -> None:
    """Give the hand-written module the emitted one's weights."""
    own = dict(emitted.named_parameters())
    with torch.no_grad():
        for name, weight in hand.named_parameters():
            weight.copy_(own[emitted_name(name)])


def emitted_name(name: str) -> str:
    """The emitted module's name of a hand-written weight."""
    parts = {
        "words.norm1": "words.blocks.0.heads_norm", "words.norm2": "words.blocks.0.ffn_norm",
        "words.norm3": "words.norm", "words.qkv": "words.blocks.0.heads.inward",
        "words.out": "words.blocks.0.heads.outward", "words.up": "words.blocks.0.ffn.0",
        "words.down": "words.blocks.0.ffn.2", "text_in": "seer.text_in.projection",
        "video_in": "seer.scene_in.projection", "action_in": "doer.action_in.projection",
        "text_at": "seer.text_in.places", "video_at": "seer.scene_in.places",
        "action_at": "doer.action_in.places", "video_last": "seer.norm.adaln.1",
        "action_last": "doer.norm.adaln.1", "video_out": "seer.scene_out",
        "action_out": "doer.action_out", "first": "layers.0", "second": "layers.2",
        "video_clock": "seer.time", "action_clock": "doer.time", "video": "seer.blocks",
        "action": "doer.blocks", "adaln": "adaln.1", "qkv": "heads.inward",
        "out": "heads.outward", "up": "ffn.0", "down": "ffn.2",
    }  # fmt: skip
    for length in (2, 1):
        head, rest = name.split(".")[:length], name.split(".")[length:]
        if ".".join(head) in parts:
            start = parts[".".join(head)]
            if start.split(".")[0] == "words":
                return ".".join([start, *rest])
            return ".".join([start, *(parts.get(part, part) for part in rest)])
    return name


def training_step(module: nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    """One step of AdamW, as the trainer takes it."""
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(1)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        module.loss(batch, generator)["loss"].backward()
        optimiser.step()

    return step


def measure(pairs: int, size: int) -> dict[str, float]:
    """Medians in milliseconds, and the ratio of each pair with its quartiles."""
    torch.manual_seed(0)
    emitted, hand = wmdsl.compile(SPEC), HandWritten()
    for weight in emitted.parameters():
        nn.init.normal_(weight, std=0.02)
    adopt(hand, emitted)
    batch = {
        "scene": torch.rand(size, 4, 3, 64, 64),
        "text": torch.randint(1, 257, (size, 32)),
        "action": torch.randn(size, 12, 7),
    }
    losses = [m.loss(batch, torch.Generator().manual_seed(2))["loss"] for m in (emitted, hand)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    steps = training_step(emitted, batch), training_step(hand, batch)
    for _ in range(WARM_UP):
        for step in steps:
            step()
    times = [[_seconds(step) for step in steps] for _ in range(pairs)]
    ratios = sorted(ours / theirs for ours, theirs in times)
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "batch": size,
        "pairs": pairs,
        "emitted_ms": 1e3 * statistics.median(ours for ours, _ in times),
        "hand_written_ms": 1e3 * statistics.median(theirs for _, theirs in times),
        "ratio": statistics.median(ratios),
        "ratio_low": quartiles[0],
        "ratio_high": quartiles[2],
    }


def _seconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 64], help="64 is the demo's")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for size in options.batch:
        row = measure(max(options.pairs // size, 10), size)
        found.append(row)
        print(
            f"batch {size}: emitted {row['emitted_ms']:.1f} ms, by hand "
            f"{row['hand_written_ms']:.1f} ms, ratio {row['ratio']:.3f} "
            f"[{row['ratio_low']:.3f}, {row['ratio_high']:.3f}] of {row['pairs']} pairs "
            f"(goal {GOAL})"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
