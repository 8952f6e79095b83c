"""Interleaved timing: medians of ratios, because a shared machine has no steady clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

LONG_SECONDS = 60.0
HEAD_START_CYCLES = 4_000_000
"""About two milliseconds of a GPU."""


@dataclass(frozen=True)
class Ratio:
    """Time of one call over that of the reference call beside it, over many rounds."""

    median: float
    low: float
    high: float
    rounds: int
    reference_milliseconds: float
    """The fastest round of the reference."""
    milliseconds: float
    """The median round of the call itself."""


def ratios(
    calls: dict[str, Callable[[], object]],
    reference: str,
    device: torch.device,
    seconds: float,
) -> dict[str, Ratio]:
    """Time all calls in turn, round after round, for about `seconds`; at least seven rounds, or
    three where seven take more than a minute.

    `low` and `high` are the tenth and ninetieth percentile.
    """
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin, rounds, passed = time.perf_counter(), 0, 0.0
    while passed < seconds or rounds < (7 if passed < LONG_SECONDS else 3):
        for name, call in calls.items():
            times[name].append(_timed(call, device))
        rounds, passed = rounds + 1, time.perf_counter() - begin
    return {name: _ratio(times[name], times[reference]) for name in calls}


def _ratio(ours: list[float], reference: list[float]) -> Ratio:
    values = sorted(our / their for our, their in zip(ours, reference, strict=True))
    tenth = len(values) // 10
    return Ratio(
        median(values),
        values[tenth],
        values[-1 - tenth],
        len(values),
        1e3 * min(reference),
        1e3 * median(ours),
    )


def _timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call: device time on a GPU, processor time on one thread, else wall time."""
    if device.type == "cuda":
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # The device waits until Python has launched all of the call: else small calls would be
        # timed by how fast they are launched.
        torch.cuda._sleep(HEAD_START_CYCLES)
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) * 1e-3
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    call()
    return clock() - begin
