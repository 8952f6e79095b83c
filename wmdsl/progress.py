"""Progress of long work: a bar with rate and time left in a terminal, sparse lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

LINE_EVERY_SECONDS = float(os.environ.get("WMDSL_PROGRESS_SECONDS", "30"))


class Progress:
    """`with Progress(True, "training", 3000) as bar: bar.advance(loss=0.1)`.

    Written to standard error, so that a verb's own output can be piped.
    """

    def __init__(self, shown: bool, title: str, total: int, start: int = 0) -> None:
        self.title, self.total, self.done = title, total, start
        self.shown = shown
        self.bar = self.task = None
        self.begun = self.last_line = time.monotonic()
        self.start = start

    def __enter__(self) -> Progress:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[values]}"),
                console=Console(stderr=True),
            )
            self.bar.start()
            self.task = self.bar.add_task(
                self.title, total=self.total, completed=self.done, rate="", values=""
            )
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()
        elif self.shown:
            self._line("")

    def advance(self, by: int = 1, **values: float) -> None:
        """Count `by` and show the newest values."""
        self.done += by
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self.bar:
            self.bar.update(self.task, completed=self.done, values=shown, rate=f"{self.rate:.1f}/s")
        elif self.shown and time.monotonic() - self.last_line > LINE_EVERY_SECONDS:
            self._line(shown)

    @property
    def rate(self) -> float:
        """Units per second since the start of this bar."""
        return (self.done - self.start) / max(time.monotonic() - self.begun, 1e-9)

    def _line(self, shown: str) -> None:
        self.last_line = time.monotonic()
        left = (self.total - self.done) / max(self.rate, 1e-9)
        counts = f"{self.done}/{self.total}  {self.rate:.1f}/s  {left:.0f} s left"
        print(f"{self.title}: {counts}  {shown}", file=sys.stderr, flush=True)
