"""What the engine saves: every query as it is emitted against the naive program.

    python benchmarks/queries.py [SPEC ...] [--query Q] [--pairs N] [--batch N] [--json FILE]
                                 [--device cuda [--graph]]

The naive program denoises everything jointly, in every step, encoders included: nothing is deleted,
hoisted or kept. `encoded` is the same with observations encoded once. All hold the same weights and
are checked to give the same answers before anything is timed. Calls are interleaved in one process
and one thread and timed in processor time; the ratio of each pair is reported as its median and
quartiles, beside the ratio of FLOPs that the plan promises.  On a GPU it is the time until that is
done; with `--graph` also that of the emitted query replayed as CUDA graphs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

import wmdsl
from wmdsl.diagnostics import Diagnostics
from wmdsl.emit import emit
from wmdsl.emit.load import load_source
from wmdsl.lower import lower
from wmdsl.plan.naive import naive
from wmdsl.plan.nodes import Plan
from wmdsl.plan.work import hoisted_flops
from wmdsl.runtime.device import moved, named, noise_of
from wmdsl.runtime.graphs import asker
from wmdsl.runtime.sample import random_batch

ROOT = Path(__file__).resolve().parents[1]
SPECS = [
    ROOT / "examples" / "hybrids" / "mot_fast.wm",
    *sorted((ROOT / "examples" / "paradigms").glob("*.wm")),
    Path(__file__).with_name("size_s.wm"),
]
WARM_UP = 3


def built(plan: Plan) -> nn.Module:
    """The module of a plan that the driver would not make."""
    return load_source(emit(lower(plan, Diagnostics()), standalone=False), plan)


def modules(spec: Path, device: torch.device) -> dict[str, nn.Module]:
    """The three programs with the same weights, none of them zero."""
    torch.manual_seed(0)
    emitted = wmdsl.compile(spec)
    with torch.no_grad():
        for weight in emitted.parameters():
            weight += 0.02 * torch.randn_like(weight)
    found = {
        "emitted": emitted,
        "naive": wmdsl.compile(spec, naive=True),
        "encoded": built(naive(emitted.plan, hoisted=True)),
    }
    for module in found.values():
        module.load_state_dict(emitted.state_dict())
        module.to(device).eval()
    return found


def call(module: nn.Module, query: str, batch: dict, graph: bool = False) -> Callable[[], dict]:
    ask = asker(module, query, graph)
    return lambda: ask(batch, noise_of(module, 0))


def agree(left: dict, right: dict) -> None:
    """Raises where two answers differ by more than rounding."""
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=2e-3, atol=2e-3)


def clock() -> float:
    """Seconds of the processor; where there is a GPU, of the wall, once that is done."""
    if not torch.cuda.is_initialized():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def clocked(asked: Callable[[], dict]) -> float:
    started = clock()
    asked()
    return clock() - started


def measured(
    found: dict[str, nn.Module], query: str, batch: dict, pairs: int, graph: bool
) -> dict:
    """Milliseconds of each program, and their ratios to the emitted one pair by pair."""
    asked = {name: call(module, query, batch) for name, module in found.items()}
    if graph:
        asked["graph"] = call(found["emitted"], query, batch, graph=True)
    others = [name for name in asked if name != "emitted"]
    for name in others:
        agree(asked[name](), asked["emitted"]())
    for one in (*asked.values(),) * WARM_UP:
        one()
    times = [{name: clocked(one) for name, one in asked.items()} for _ in range(pairs)]
    report = {
        f"{name}_ms": 1e3 * statistics.median(entry[name] for entry in times) for name in asked
    }
    for name in others:
        ratios = [entry[name] / entry["emitted"] for entry in times]
        report[name] = statistics.quantiles(ratios, n=4)
    return report


def rows(
    spec: Path, only: str | None, pairs: int, size: int, device: torch.device, graph: bool
) -> Iterator[dict]:
    """One row for each query of a spec."""
    found = modules(spec, device)
    plan = found["emitted"].plan
    batch = moved(random_batch(plan.model, size), device)
    for name, query in plan.queries.items():
        if query.chain and only in (None, name):
            once = hoisted_flops(plan.model, naive(plan).queries[name].chain)
            promised = {"naive": query.naive_flops / query.flops, "encoded": once / query.flops}
            yield {
                "spec": spec.stem, "query": name, "batch": size, "flops": query.flops,
                "promised": promised, **measured(found, name, batch, pairs, graph),
            }  # fmt: skip
    if only is None:
        yield {"spec": spec.stem, "query": "(train step)", "batch": size,
               "emitted_ms": train_ms(found["emitted"], batch, pairs)}  # fmt: skip


def train_ms(module: nn.Module, batch: dict, pairs: int) -> float:
    """Median of a forward and backward pass."""

    def step() -> dict:
        module.zero_grad()
        losses = module.loss(batch)
        losses["loss"].backward()
        return losses

    for _ in range(WARM_UP):
        step()
    return 1e3 * statistics.median(clocked(step) for _ in range(pairs))


def line(row: dict) -> str:
    first = f"{row['spec']:<16}{row['query']:<14}{row['emitted_ms']:8.2f} ms"
    if "naive" not in row:
        return first
    parts = [
        f"{name} {row[name][1]:5.2f}x [{row[name][0]:.2f}, {row[name][2]:.2f}] "
        f"plan {row['promised'][name]:.2f}x"
        for name in ("naive", "encoded")
    ]
    if "graph" in row:
        parts.append(f"graph {row['graph_ms']:.2f} ms")
    return "  ".join([first, *parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("specs", nargs="*", type=Path, default=SPECS)
    parser.add_argument("--query", help="this query only")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--graph", action="store_true", help="also as CUDA graphs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = []
    for spec in options.specs:
        place = named(options.device), options.graph
        for row in rows(spec, options.query, options.pairs, options.batch, *place):
            print(line(row), flush=True)
            report.append(row)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
