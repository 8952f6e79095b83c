"""Plots of a report as inline SVG; matplotlib is imported only here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from wmdsl.report.runs import Entry

SIGHTED, BLIND = "#2563a8", "#b8b8b8"


def success(entries: Sequence[Entry], tasks: Sequence[str]) -> str:
    """Success per task with 95 % intervals; grey marks are the blind controls."""
    figure, axes = _figure(
        1.6 * max(len(tasks), 2) * 1.25, 0.42 * len(entries) * 1.0 + 1.2, columns=len(tasks)
    )
    for axis, task in zip(axes, tasks, strict=True):
        for row, entry in enumerate(entries):
            _marks(axis, row + 0.12, [run.tasks.get(task) for run in entry.blind], BLIND)
            _marks(axis, row - 0.12, [run.tasks.get(task) for run in entry.sighted], SIGHTED)
        axis.set(xlim=(-3, 103), ylim=(len(entries) - 0.4, -0.6), title=task.split("/")[-1])
        axis.set_yticks(range(len(entries)), [entry.model for entry in entries])
        axis.tick_params(labelleft=axis is axes[0])
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_xlabel("success %")
    return svg_of(figure)


def _marks(axis: Any, row: float, results: Sequence[dict[str, Any] | None], colour: str) -> None:
    found = [result for result in results if result]
    for at, result in enumerate(found):
        y = row + 0.08 * (at - (len(found) - 1) / 2)
        low, high = (100 * end for end in result["interval"])
        axis.plot([low, high], [y, y], color=colour, linewidth=1.5)
        axis.plot([100 * result["success"]], [y], "o", color=colour, markersize=4)


def losses(entry: Entry) -> str:
    """Loss terms over steps of every sighted run of one spec."""
    figure, (axis, shares) = _figure(8, 2.6, columns=2)
    for run in entry.sighted:
        names = [name for name in run.metrics[0] if _is_term(name)] if run.metrics else []
        for at, name in enumerate(names):
            points = [(line["step"], line[name]) for line in run.metrics if line.get(name, 0) > 0]
            axis.plot(
                *zip(*points, strict=True),
                label=name if run is entry.sighted[0] else None,
                color=f"C{at}",
                linewidth=1,
            )
        _shares(shares, run.metrics)
    axis.set(yscale="log", xlabel="step", ylabel="loss")
    shares.set(xlabel="step", ylabel="share of gradient norm", ylim=(0, 1))
    for each in (axis, shares):
        if each.get_legend_handles_labels()[0]:
            each.legend(fontsize=7)
    return svg_of(figure)


def _shares(axis: Any, lines: Sequence[dict[str, float]]) -> None:
    marked = [line for line in lines if any(k.startswith("gradient_share/") for k in line)]
    for name in sorted({k for line in marked for k in line if k.startswith("gradient_share/")}):
        points = [(line["step"], line[name]) for line in marked if name in line]
        axis.plot(
            *zip(*points, strict=True),
            "o-",
            markersize=3,
            linewidth=1,
            label=name.removeprefix("gradient_share/"),
        )


def _is_term(name: str) -> bool:
    other = ("step", "seconds", "gradient_norm", "learning_rate")
    return name not in other and not name.startswith("gradient_share")


def _figure(width: float, height: float, columns: int) -> tuple[Any, Any]:
    figure, axes = figure_of(width, height, columns)
    return figure, axes[0]


def figure_of(width: float, height: float, columns: int, rows: int = 1) -> tuple[Any, Any]:
    """A figure and its axes as rows of lists; the same data gives the same bytes of SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "wmdsl"
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(max(width, 4), height), squeeze=False, layout="constrained"
    )
    return figure, [list(row) for row in axes]


def svg_of(figure: Any) -> str:
    """The figure as inline SVG text; it is closed."""
    from matplotlib import pyplot

    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    text = stream.getvalue()
    return text[text.index("<svg") :]
