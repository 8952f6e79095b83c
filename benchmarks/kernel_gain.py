"""What the kernels gain: training steps of example specs with them and with torch in their place.

    python benchmarks/kernel_gain.py [SPEC ...] [--rounds N] [--batch N] [--json FILE]

All variants are one emitted module with one set of weights; before a step, names of its Python
module are bound to the kernels or to what stands in for them. The losses of all variants are
checked to agree to 1e-5 before anything is timed. Steps are interleaved in one process and one
thread and timed in processor time; printed are the medians of the ratios with their quartiles.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.nn import functional

import wmdsl
import wmdsl_kernels
from wmdsl.blocks import standalone
from wmdsl.runtime.sample import random_batch
from wmdsl_kernels import Schedule

PARADIGMS = Path(__file__).parents[1] / "examples" / "paradigms"
WARM_UP = 3


def dense_attention(query, key, value, schedule=None):
    """torch's attention under a dense boolean mask, made once per schedule."""
    heads = [tensor.transpose(1, 2) for tensor in (query, key, value)]
    mask = None if schedule is None else dense_mask(schedule)
    grouped = query.shape[2] != key.shape[2]
    mixed = functional.scaled_dot_product_attention(*heads, attn_mask=mask, enable_gqa=grouped)
    return mixed.transpose(1, 2)


@cache
def dense_mask(schedule: Schedule) -> torch.Tensor:
    return schedule.to_dense_mask()


ROWWISE = {
    "modulated_norm": standalone.modulated_norm,
    "gated_residual": standalone.gated_residual,
    "rotated_heads": standalone.rotated_heads,
}
STAND_INS = {
    "dense-mask sdpa": {"attention": dense_attention},
    "torch row by row": ROWWISE,
    "neither": {"attention": dense_attention, **ROWWISE},
}
"""Per rival, what takes the place of which kernel."""


class Contender:
    """One variant of a module: binds its names, then takes training steps of AdamW."""

    def __init__(self, module: nn.Module, stand_ins: dict[str, object]):
        self.module, self.python = module, sys.modules[type(module).__module__]
        kernels = {name: getattr(wmdsl_kernels, name) for name in STAND_INS["neither"]}
        self.names = {**kernels, **stand_ins}
        self.optimiser = torch.optim.AdamW(module.parameters(), lr=1e-5, foreach=True)

    def loss(self, batch: dict[str, torch.Tensor], seed: int) -> torch.Tensor:
        bind(self.python, self.names)
        return self.module.loss(batch, torch.Generator().manual_seed(seed))["loss"]

    def step(self, batch: dict[str, torch.Tensor], seed: int) -> float:
        """Seconds of one step."""
        bind(self.python, self.names)
        start = time.process_time()
        self.optimiser.zero_grad(set_to_none=True)
        self.loss(batch, seed).backward()
        self.optimiser.step()
        return time.process_time() - start


def bind(python: ModuleType, names: dict[str, object]) -> None:
    for name, function in names.items():
        if hasattr(python, name):
            setattr(python, name, function)


def measure(spec: Path, rounds: int, size: int) -> dict[str, object]:
    """The median step in milliseconds, and per rival the ratio of ours to it with its quartiles."""
    torch.manual_seed(0)
    module = wmdsl.compile(spec)
    # Gates and heads start at zero, which would hide what the blocks compute.
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.02)
    batch = random_batch(module.plan.model, size, seed=1)
    contenders = {"kernels": Contender(module, {})}
    contenders |= {name: Contender(module, names) for name, names in STAND_INS.items()}
    losses = [contender.loss(batch, 0).detach() for contender in contenders.values()]
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], rtol=0, atol=1e-5)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-WARM_UP, rounds):
        for name, contender in contenders.items():
            seconds = contender.step(batch, turn + WARM_UP)
            if turn >= 0:
                times[name].append(seconds)
    ours = times.pop("kernels")
    return {
        "spec": spec.stem,
        "batch": size,
        "rounds": rounds,
        "step_ms": 1e3 * statistics.median(ours),
        "ratios": {name: quartiles(ours, theirs) for name, theirs in times.items()},
    }


def quartiles(ours: list[float], theirs: list[float]) -> list[float]:
    """Lower quartile, median and upper quartile of ours over theirs, round by round."""
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    return statistics.quantiles(ratios, n=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("specs", nargs="*", type=Path, default=sorted(PARADIGMS.glob("*.wm")))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64, help="64 is the demo's")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for spec in options.specs:
        row = measure(spec, options.rounds, options.batch)
        found.append(row)
        ratios = "; ".join(
            f"over {name} {middle:.3f} [{low:.3f}, {high:.3f}]"
            for name, (low, middle, high) in row["ratios"].items()
        )
        print(f"{row['spec']}, batch {row['batch']}: {row['step_ms']:.0f} ms; {ratios}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
