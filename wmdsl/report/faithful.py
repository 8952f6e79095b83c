"""Pictures of the faithfulness suite: curves over the horizon, and film strips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wmdsl.report.plots import figure_of, svg_of
from wmdsl.runtime.run import write_text

if TYPE_CHECKING:
    from wmdsl.runtime.faithful.suite import Finding

PANELS = {
    "hand": "hand error (m)",
    "image": "image error (of 1)",
    "latent": "latent error",
    "retrieval": "retrieval",
    "sensitivity": "action sensitivity",
}
COLOURS = {"model": "#2563a8", "shuffled": "#c2592e", "copy": "#8a8a8a", "simulator": "#2a8c4a"}
GAP = 2


def write_pictures(finding: Finding, folder: Path, strips: int = 2) -> list[Path]:
    """`faithful.svg`, and a film strip PNG for each of the first situations of an environment."""
    plot = folder / "faithful.svg"
    write_text(plot, curves(finding.report))
    return [plot, *_strips(finding, folder, strips)]


def curves(report: dict[str, Any]) -> str:
    """One row of panels per environment: every system over the horizon with 95 % bands."""
    environments = report["environments"]
    columns, rows = len(PANELS), len(environments)
    figure, axes = figure_of(3.0 * columns, 2.5 * rows, columns, rows)
    for row, (name, part) in zip(axes, environments.items(), strict=True):
        for axis, (key, title) in zip(row, PANELS.items(), strict=True):
            for system, values in part["systems"].items():
                _curve(axis, report["horizons"], values.get(key, ()), system)
            axis.set(title=title, xlabel="s")
            axis.grid(alpha=0.3)
        row[0].set_ylabel(name.rpartition("/")[2])
        row[0].legend(fontsize=7)
    return svg_of(figure)


def _curve(axis: Any, horizons: Sequence[float], estimates: Sequence[Any], system: str) -> None:
    points = [(at, *one) for at, one in zip(horizons, estimates, strict=False) if one]
    if points:
        at, value, low, high = zip(*points, strict=True)
        axis.plot(at, value, "o-", color=COLOURS[system], label=system, linewidth=1, markersize=3)
        axis.fill_between(at, low, high, color=COLOURS[system], alpha=0.2, linewidth=0)


def _strips(finding: Finding, folder: Path, count: int) -> list[Path]:
    """Rows are sequences, the truth above the imagination; columns are horizons."""
    from matplotlib import image

    written = []
    start = 0
    for name, part in finding.report["environments"].items():
        if name == "all":
            continue
        for number in range(min(count, part["situations"])):
            true, imagined = (finding.frames[s][start + number] for s in ("simulator", "model"))
            path = folder / f"faithful-{name.replace('/', '_')}-{number}.png"
            image.imsave(path, _grid(np.stack([true, imagined], 1)))
            written.append(path)
        start += part["situations"]
    return written


def _grid(frames: np.ndarray) -> np.ndarray:
    """Frames [K, 2, C, 3, H, W] in 0..1 as one picture uint8."""
    padding = [(0, 0)] * 4 + [(0, GAP), (0, GAP)]
    padded = np.pad(frames, padding, constant_values=1.0).clip(0, 1)
    sequences, two, columns, _, height, width = padded.shape
    grid = padded.transpose(0, 1, 4, 2, 5, 3).reshape(sequences * two * height, columns * width, 3)
    return (grid.repeat(2, 0).repeat(2, 1) * 255).round().astype(np.uint8)
