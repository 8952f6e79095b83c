"""The bench's table, JSON and plot."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch

from wmdsl_kernels.bench.run import NAMED, Result

HEADER = "workload     dtype direction  density | ratio to dense-mask SDPA: median [10 %, 90 %]"


def row(result: Result) -> str:
    """One line: every contender's ratio, ours also over the mask's density and as a rate."""
    parts = []
    for name, ratio in result.ratios.items():
        if name == result.reference:
            parts.append(f"{name} {ratio.reference_milliseconds:.2f} ms")
            continue
        text = f"{name} {ratio.median:.3f} [{ratio.low:.2f}, {ratio.high:.2f}]"
        if name in ("ours", *NAMED.values()):
            rate = 1e-9 * result.flops / ratio.milliseconds
            text += f" = {ratio.median / result.density:.2f} x density, {rate:.2f} TFLOP/s"
        parts.append(text)
    parts += [f"{name} refused: {reason[:60]}" for name, reason in result.refused.items()]
    head = f"{result.workload:12} {result.dtype:5} {result.direction:10} {result.density:7.3f}"
    return f"{head} | {'; '.join(parts)}"


def environment(device: torch.device) -> dict[str, object]:
    """What the figures depend on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": _version("triton"),
        "xformers": _version("xformers"),
    }


def write_json(
    surroundings: dict[str, object], parts: dict[str, list[dict[str, object]]], path: Path
) -> None:
    """All figures with their spread, part by part, and the environment."""
    path.write_text(json.dumps({"environment": surroundings, **parts}, indent=2) + "\n")


def write_plot(results: list[Result], path: Path) -> None:
    """Our ratio per workload beside the mask's density; without matplotlib only a line says so."""
    if find_spec("matplotlib") is None:
        print("no plot: matplotlib is not installed")
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.32 * len(results) + 1.2), layout="tight")
    axes = figure.subplots()
    labels = [f"{r.workload} {r.dtype} {r.direction}" for r in results]
    ours = [r.ratios["ours"] for r in results]
    spread = [[o.median - o.low for o in ours], [o.high - o.median for o in ours]]
    places = range(len(results))
    axes.barh(places, [o.median for o in ours], xerr=spread, color="#4878a8", label="ours")
    axes.plot([r.density for r in results], places, "k|", markersize=11, label="mask density")
    axes.axvline(1.0, color="#a04040", linewidth=1, label="dense-mask SDPA")
    axes.set_yticks(places, labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("time / time of dense-mask SDPA (median; 10 % to 90 %)")
    axes.legend(fontsize=8)
    figure.savefig(path)


def _commit() -> str | None:
    """The commit that this file belongs to, `-dirty` where something was changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = Path(__file__).parent
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except OSError:
        return None
    return found.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
