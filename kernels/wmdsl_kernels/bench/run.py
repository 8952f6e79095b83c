"""One workload against its rivals, forward and forward + backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch

from wmdsl_kernels.attention import attention
from wmdsl_kernels.bench import rivals
from wmdsl_kernels.bench.measure import Ratio, ratios
from wmdsl_kernels.bench.workloads import Workload

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
REFERENCE = "sdpa"
NAMED = {"cuda": "triton", "cpu": "cpu"}
"""Our kernels of a device, timed beside `ours` where the order of preference takes torch's own."""
TOLERANCE = 5e-2
"""Relative to the largest value of an output or gradient, in bf16 too."""

Call = Callable[[], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class Result:
    """The ratios of one workload, dtype and direction to dense-mask SDPA."""

    workload: str
    dtype: str
    direction: str
    density: float
    flops: int
    """Of the visible pairs, all passes of this direction."""
    reference: str
    """What the ratios are over: dense-mask SDPA, or the next that runs where it does not."""
    ratios: dict[str, Ratio]
    refused: dict[str, str]
    """The rivals that do not run here, or compute something else, and why."""

    def as_record(self) -> dict[str, object]:
        """The result as plain JSON values."""
        return asdict(self)


def bench(
    workload: Workload, dtype: str, names: list[str], device: torch.device, seconds: float
) -> list[Result]:
    """Time ours and the named rivals on one workload; all are first checked to agree.

    What a rival cannot do is recorded; AssertionError, or its own error, where ours fails.
    """
    inputs, gradient = _inputs(workload, DTYPES[dtype], device)
    ours = _ours(workload, device)
    others, unfit = _others(workload, names, device)
    results = []
    for direction in ("forward", "training") if workload.backward else ("forward",):
        train = direction == "training"
        slope = gradient if train else None
        calls = {name: _call(run, inputs, slope) for name, run in (others | ours).items()}
        with torch.set_grad_enabled(train):
            refused = unfit | failures(calls, ours)
            calls = {name: call for name, call in calls.items() if name not in refused}
            reference = next(iter(calls))
            measured = ratios(calls, reference, device, seconds)
        density, flops = workload.schedule.density, workload.flops(train)
        facts = (workload.name, dtype, direction, density, flops)
        results.append(Result(*facts, reference, measured, refused))
    return results


def failures(calls: dict[str, Call], ours: Sequence[str]) -> dict[str, str]:
    """Why a rival is out: it raises, or differs from the first call that runs.

    Raises where one of ours does so.
    """
    expected, first, failed = None, "", {}
    for name, call in calls.items():
        try:
            found = call()
        except Exception as error:
            if name in ours:
                raise
            failed[name] = reason(error)
            continue
        if expected is None:
            expected, first = found, name
        elif not all(map(_agree, found, expected)):
            if name in ours:
                raise AssertionError(f"{name} computes something else than {first}")
            failed[name] = "computes something else"
    return failed


def reason(error: Exception) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _agree(found: torch.Tensor, expected: torch.Tensor) -> bool:
    found, expected = found.detach().float(), expected.detach().float()
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _ours(workload: Workload, device: torch.device) -> dict[str, rivals.Attention]:
    run = partial(attention, schedule=workload.schedule)
    found = {"ours": run}
    if workload.schedule.is_dense:
        name = NAMED[device.type]
        found[name] = partial(run, backend=name)
    return found


def _others(
    workload: Workload, names: list[str], device: torch.device
) -> tuple[dict[str, rivals.Attention], dict[str, str]]:
    """The rivals, the reference first, and why some cannot be set up."""
    runs, unfit = {}, {}
    for name in sorted(names, key=lambda name: name != REFERENCE):
        try:
            runs[name] = rivals.RIVALS[name](workload, device)
        except Exception as error:
            unfit[name] = reason(error)
    return runs, unfit


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


def _call(run: rivals.Attention, inputs: list[torch.Tensor], gradient: torch.Tensor | None) -> Call:
    if gradient is None:
        return lambda: [run(*inputs)]
    return lambda: torch.autograd.grad(run(*inputs), inputs, gradient)
