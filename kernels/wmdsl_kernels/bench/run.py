"""One workload against its rivals, forward and forward + backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch

from wmdsl_kernels.attention import attention
from wmdsl_kernels.bench import rivals
from wmdsl_kernels.bench.measure import Ratio, ratios
from wmdsl_kernels.bench.workloads import Workload

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
REFERENCE = "sdpa"


@dataclass(frozen=True)
class Result:
    """The ratios of one workload, dtype and direction to dense-mask SDPA."""

    workload: str
    dtype: str
    direction: str
    density: float
    ratios: dict[str, Ratio]

    def as_record(self) -> dict[str, object]:
        """The result as plain JSON values."""
        return asdict(self)


def bench(
    workload: Workload, dtype: str, names: list[str], device: torch.device, seconds: float
) -> list[Result]:
    """Time ours and the named rivals on one workload; every rival is first checked against ours."""
    inputs, gradient = _inputs(workload, DTYPES[dtype], device)
    runs = {name: rivals.RIVALS[name](workload, device) for name in names}
    runs["ours"] = partial(attention, schedule=workload.schedule)
    _check_agreement(runs, inputs)
    results = []
    for direction in ("forward", "training") if workload.backward else ("forward",):
        train = direction == "training"
        calls = {
            name: _call(run, inputs, gradient if train else None) for name, run in runs.items()
        }
        with torch.set_grad_enabled(train):
            measured = ratios(calls, REFERENCE, device, seconds)
        density = workload.schedule.density
        results.append(Result(workload.name, dtype, direction, density, measured))
    return results


def _inputs(workload: Workload, dtype: torch.dtype, device: torch.device):
    generator = torch.Generator().manual_seed(0)
    schedule, batch, width = workload.schedule, workload.batch, workload.head_dim
    shapes = [
        (batch, schedule.query_length, workload.query_heads, width),
        (batch, schedule.key_length, workload.key_heads, width),
        (batch, schedule.key_length, workload.key_heads, width),
        (batch, schedule.query_length, workload.query_heads, width),
    ]
    *inputs, gradient = (
        torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes
    )
    return [tensor.requires_grad_() for tensor in inputs], gradient


def _call(
    run: rivals.Attention, inputs: list[torch.Tensor], gradient: torch.Tensor | None
) -> Callable[[], object]:
    if gradient is None:
        return lambda: run(*inputs)
    return lambda: torch.autograd.grad(run(*inputs), inputs, gradient)


def _check_agreement(runs: dict[str, rivals.Attention], inputs: list[torch.Tensor]) -> None:
    with torch.no_grad():
        outputs = {name: run(*inputs).float() for name, run in runs.items()}
    for name, output in outputs.items():
        torch.testing.assert_close(
            output, outputs[REFERENCE], rtol=0, atol=5e-2, msg=f"{name} computes something else"
        )
