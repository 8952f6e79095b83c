"""Decoding: a few queries over cached keys that lie in a pool, against torch's attention.

Contenders run in turn, round after round, in one process: `decode_attention`, torch's attention
over the gathered rows (the reference), the same over rows that lie side by side already (what a
cache without slots would need), and a copy of the keys and values. Each call goes through several
pools, as a model does through its layers: the caches of a processor hold none of them. Ours is
first checked to agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch.nn import functional

from wmdsl_kernels import decode_attention
from wmdsl_kernels.bench.measure import Ratio, ratios
from wmdsl_kernels.bench.run import DTYPES, Call, failures

REFERENCE = "gathered"


@dataclass(frozen=True)
class Shape:
    """Queries [batch, queries, query heads, head dim] over `slots` rows of each of the pools."""

    name: str
    queries: int
    slots: int
    batch: int = 1
    query_heads: int = 24
    key_heads: int = 24
    head_dim: int = 128
    pools: int = 4

    def read_bytes(self, dtype: torch.dtype) -> int:
        """Of the keys and values of all pools, read once."""
        rows = self.pools * self.batch * self.slots
        return 2 * rows * self.key_heads * self.head_dim * dtype.itemsize


SHAPES = {
    "cuda": tuple(
        Shape(f"{queries}x{slots}", queries, slots)
        for slots in (4096, 9792)
        for queries in (16, 32, 64)
    ),
    "cpu": (Shape("16x1024", 16, 1024), Shape("demo", 16, 98, 1, 4, 2, 32)),
}
"""Action tokens over the cached video of published systems; smaller ones for a CPU."""


def measure(
    shape: Shape, dtype: torch.dtype, device: torch.device, seconds: float
) -> dict[str, Ratio]:
    """Ratios of all contenders to torch's attention over the gathered rows."""
    calls = _calls(shape, dtype, device)
    with torch.no_grad():
        checked = {name: call for name, call in calls.items() if name != "copy"}
        failures(checked, list(checked))
        return ratios(calls, REFERENCE, device, seconds)


def _calls(shape: Shape, dtype: torch.dtype, device: torch.device) -> dict[str, Call]:
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randn(sizes, generator=generator).to(device, dtype)

    rows = shape.batch * shape.slots
    query = draw(shape.batch, shape.queries, shape.query_heads, shape.head_dim)
    pools = [
        [draw(rows, shape.key_heads, shape.head_dim) for _ in range(2)] for _ in range(shape.pools)
    ]
    order = torch.randperm(rows, generator=generator).view(shape.batch, shape.slots)
    slots, order = order.int().to(device), order.to(device)
    beside = [[pool[order] for pool in pair] for pair in pools]
    group = shape.query_heads // shape.key_heads

    def attend(key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        heads = [part.transpose(1, 2) for part in (query, key, value)]
        output = functional.scaled_dot_product_attention(*heads, enable_gqa=group > 1)
        return output.transpose(1, 2)

    return {
        REFERENCE: lambda: [attend(key[order], value[order]) for key, value in pools],
        "ours": lambda: [decode_attention(query, *pair, slots) for pair in pools],
        "side by side": lambda: [attend(*pair) for pair in beside],
        "copy": lambda: [pool.clone() for pair in pools for pool in pair],
    }


def lines(
    device: torch.device, dtypes: list[str], seconds: float
) -> Iterator[tuple[str, dict[str, object]]]:
    """A line to print and its record, one per shape and dtype of the device's table."""
    for shape in SHAPES[device.type]:
        for dtype in dtypes:
            found = measure(shape, DTYPES[dtype], device, seconds)
            measured = {name: asdict(ratio) for name, ratio in found.items()}
            record = asdict(shape) | {"dtype": dtype, "ratios": measured}
            yield _line(shape, dtype, device, found), record


def _line(shape: Shape, dtype: str, device: torch.device, found: dict[str, Ratio]) -> str:
    """Times as ratios; on a GPU also what is read in a second, and by the copy written too."""
    parts = []
    for name, ratio in found.items():
        text = f"{name} {ratio.median:.3f} [{ratio.low:.2f}, {ratio.high:.2f}]"
        if name == REFERENCE:
            text = f"{name} {ratio.reference_milliseconds:.3f} ms"
        if device.type == "cuda":
            moved = shape.read_bytes(DTYPES[dtype]) * (2 if name == "copy" else 1)
            text += f" {1e-6 * moved / ratio.milliseconds:.0f} GB/s"
        parts.append(text)
    return f"decode {shape.name:9} {dtype:5} | {'; '.join(parts)}"
