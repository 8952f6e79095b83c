"""`python -m wmdsl_kernels.bench.around`: what surrounds attention against torch's operations.

Contenders run in turn, round after round, in one process: ours, the same function of torch's
operations (on a GPU also through torch.compile), and a copy of the tokens that go in and come out,
which no kernel can beat. Ours is first checked to agree. Printed are medians of the ratios to
torch, with the tenth and ninetieth percentile.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import torch

from wmdsl_kernels import (
    Projection,
    cached_heads,
    gated_residual,
    grouped_linear,
    joint_heads,
    modulated_norm,
)
from wmdsl_kernels.bench.measure import Ratio, ratios
from wmdsl_kernels.bench.rivals import compiled
from wmdsl_kernels.bench.run import DTYPES, Call, failures
from wmdsl_kernels.heads.angles import axis_angles, line_angles, video_pairs


@dataclass(frozen=True)
class Shape:
    """Two streams of a block, the first in two runs: tokens [batch, lengths, width]."""

    name: str
    batch: int
    lengths: tuple[int, int, int]
    width: int
    heads: int
    head_dim: int


SHAPES = {
    "cuda": (
        Shape("FW1", 16, (98, 196, 32), 3072, 24, 128),
        Shape("FW2", 16, (120, 240, 32), 3072, 24, 128),
        Shape("LB1a", 1, (1920, 1920, 256), 3072, 24, 128),
        Shape("MO1", 8, (180, 180, 21), 3072, 24, 128),
    ),
    "cpu": (
        Shape("FW1", 1, (98, 196, 32), 3072, 24, 128),
        Shape("demo", 64, (9, 16, 17), 192, 4, 32),
        Shape("demo-1", 1, (9, 16, 17), 192, 4, 32),
    ),
}
"""Published ones for a GPU; one sample of one, and the demo's training and inference, for a CPU."""


@dataclass(frozen=True)
class Workload:
    """A function of `backend`, its differentiable inputs, and the tokens that it reads."""

    run: Callable[..., object]
    inputs: list[torch.Tensor]
    tokens: list[torch.Tensor]
    backward: bool = True


def workloads(shape: Shape, dtype: torch.dtype, device: torch.device) -> dict[str, Workload]:
    """The operations of a block on tokens of this shape."""
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes: int) -> torch.Tensor:
        drawn = torch.randn(sizes, generator=generator).to(device, dtype)
        return drawn.requires_grad_()

    runs = shape.lengths[:2]
    x, change = (draw(shape.batch, sum(runs), shape.width) for _ in range(2))
    shift, scale = (draw(shape.batch, len(runs), shape.width) for _ in range(2))
    joint = _streams(shape, draw, device)
    rows = [shift, scale]
    weights = [weight for stream in joint for weight in stream[:3]]
    tokens = [stream.heads for stream in joint]
    return {
        "norm + modulation": Workload(partial(modulated_norm, x, *rows, runs), [x, *rows], [x]),
        "gate + residual": Workload(
            partial(gated_residual, x, change, scale, runs), [x, change, scale], [x, change]
        ),
        "joint heads": Workload(
            partial(joint_heads, joint, shape.heads, shape.heads), weights, tokens
        ),
        "cached heads": _cached(shape, joint[0]),
        "grouped linear": _grouped(shape, draw),
    }


def _cached(shape: Shape, stream: Projection) -> Workload:
    """The video's queries, and its keys and values in a pool in any order; pools per back end."""
    batch, length = stream.heads.shape[:2]
    generator = torch.Generator().manual_seed(1)
    slots = torch.randperm(batch * length, generator=generator).int().view(batch, length)
    slots = slots.to(stream.heads.device)
    pool = stream.heads.new_zeros(batch * length, shape.heads, shape.head_dim)
    pools = {backend: (pool.clone(), pool.clone()) for backend in (None, "torch")}

    def run(backend: str | None = None) -> list[torch.Tensor]:
        mine = pools[backend]
        query = cached_heads(stream, shape.heads, shape.heads, *mine, slots, backend=backend)
        return [query, *mine]

    return Workload(run, [], [stream.heads], backward=False)


def _grouped(shape: Shape, draw) -> Workload:
    """One projection of the video's expert and one of the action's, of a third of its width."""
    lengths = (sum(shape.lengths[:2]), shape.lengths[2])
    widths = (shape.width, shape.width // 3)
    pairs = list(zip(lengths, widths, strict=True))
    inputs = [draw(shape.batch, length, width) for length, width in pairs]
    weights = [
        (draw(shape.width, width).detach() / width**0.5).requires_grad_() for width in widths
    ]
    return Workload(partial(grouped_linear, inputs, weights), [*inputs, *weights], inputs)


def _streams(shape: Shape, draw, device: torch.device) -> list[Projection]:
    """Video with 3D positions and actions with 1D ones, normed across all heads."""
    video, action = sum(shape.lengths[:2]), shape.lengths[2]
    cells = torch.stack([torch.arange(video) // 49, torch.arange(video) % 7, torch.arange(video)])
    tables = (
        axis_angles(cells.T.float(), video_pairs(shape.head_dim)),
        line_angles(torch.arange(action).float(), shape.head_dim),
    )
    return [
        Projection(
            draw(shape.batch, len(angles), 3 * shape.heads, shape.head_dim),
            *(draw(shape.heads, shape.head_dim) for _ in range(2)),
            angles.cos().to(device),
            angles.sin().to(device),
        )
        for angles in tables
    ]


def measure(
    workload: Workload, device: torch.device, train: bool, seconds: float
) -> tuple[dict[str, Ratio], dict[str, str]]:
    """Ratios of all contenders to torch's operations, and why torch.compile is out."""
    with torch.set_grad_enabled(train):
        ours = _call(workload.run, workload.inputs, train)
        plain = _call(partial(workload.run, backend="torch"), workload.inputs, train)
        calls = {"torch": plain, "ours": ours}
        if device.type == "cuda":
            fused = compiled(partial(workload.run, backend="torch"))
            calls["compiled"] = _call(fused, workload.inputs, train)
        refused = failures(calls, ("torch", "ours"))
        calls = {name: call for name, call in calls.items() if name not in refused}
        calls["copy"] = _copies(workload.tokens, train)
        return ratios(calls, "torch", device, seconds), refused


def _call(run: Callable[[], object], inputs: list[torch.Tensor], train: bool) -> Call:
    def call() -> list[torch.Tensor]:
        found = run()
        outputs = [found] if isinstance(found, torch.Tensor) else list(found)
        if not train:
            return outputs
        slopes = [output.detach() for output in outputs]
        return [*outputs, *torch.autograd.grad(outputs, inputs, slopes)]

    return call


def _copies(tokens: list[torch.Tensor], train: bool) -> Call:
    """What goes through memory at least: the tokens once in and out, in training thrice."""
    detached = [tensor.detach() for tensor in tokens]
    return lambda: [tensor.clone() for tensor in detached * (3 if train else 1)]


def main(arguments: list[str] | None = None) -> None:
    """Print one line per shape, operation, dtype and direction."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=SHAPES, default=default)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32"])
    parser.add_argument("--seconds", type=float, default=0.5, help="per line")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for line, _ in lines(torch.device(options.device), options.dtypes, options.seconds):
        print(line, flush=True)


def lines(
    device: torch.device, dtypes: list[str], seconds: float
) -> Iterator[tuple[str, dict[str, object]]]:
    """A line to print and its record, one per shape, dtype, operation and direction."""
    for shape in SHAPES[device.type]:
        for dtype in dtypes:
            for name, workload in workloads(shape, DTYPES[dtype], device).items():
                for train in (False, True) if workload.backward else (False,):
                    found, refused = measure(workload, device, train, seconds)
                    record = {
                        "shape": shape.name,
                        "operation": name,
                        "dtype": dtype,
                        "direction": "training" if train else "forward",
                        "ratios": {who: asdict(ratio) for who, ratio in found.items()},
                        "refused": refused,
                    }
                    yield _line(record, found), record


def _line(record: dict[str, object], found: dict[str, Ratio]) -> str:
    plain = found["torch"].reference_milliseconds
    parts = [f"torch {plain:.3f} ms"]
    parts += [
        f"{who} {ratio.median:.3f} [{ratio.low:.2f}, {ratio.high:.2f}]"
        for who, ratio in found.items()
        if who != "torch"
    ]
    parts += [f"{who} refused: {why[:60]}" for who, why in record["refused"].items()]
    shape, name, dtype, direction = (
        record[key] for key in ("shape", "operation", "dtype", "direction")
    )
    return f"{shape:7} {name:18} {dtype:5} {direction:9} | {'; '.join(parts)}"


if __name__ == "__main__":
    main()
