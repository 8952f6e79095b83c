"""A progress bar with rate and time left; nothing is printed where it is switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(label: str, total: int, unit: str, enabled: bool) -> Iterator[Callable]:
    """Give a function `advance(steps=1, note="")` for a job of `total` units."""
    if not enabled:
        yield lambda steps=1, note="": None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as bar:
        job = bar.add_task(label, total=total, rate="", note="")

        def advance(steps: int = 1, note: str = "") -> None:
            speed = bar.tasks[job].speed
            rate = f"{speed:.1f} {unit}/s" if speed else ""
            bar.update(job, advance=steps, rate=rate, note=note)

        yield advance
