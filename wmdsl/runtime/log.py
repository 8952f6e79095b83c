"""Metrics of a run: `metrics.jsonl`, and TensorBoard beside it where that is installed."""

from __future__ import annotations

import importlib.util
import json
from types import TracebackType

from wmdsl.runtime import errors
from wmdsl.runtime.run import RunDirectory, write_text


class MetricsLog:
    """Appends lines; after a resume, lines beyond the checkpoint's step are cut off first."""

    def __init__(self, run: RunDirectory, step: int) -> None:
        self.run, self.step = run, step
        self.stream = self.board = None

    def __enter__(self) -> MetricsLog:
        self._cut()
        self.stream = open(self.run.metrics, "a", encoding="utf-8")
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.run.path / "tensorboard"), purge_step=self.step)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()
        if self.board:
            self.board.close()

    def write(self, line: dict[str, float | str]) -> None:
        try:
            self.stream.write(json.dumps(line) + "\n")
            self.stream.flush()
        except OSError as reason:
            raise errors.unwritable(self.run.metrics, reason) from reason
        for name, value in line.items() if self.board else ():
            if name not in ("step", "stage"):
                self.board.add_scalar(name, value, int(line["step"]))

    def _cut(self) -> None:
        if not self.run.metrics.exists():
            return
        lines = self.run.metrics.read_text(encoding="utf-8").splitlines()
        kept = [
            line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.step
        ]
        write_text(self.run.metrics, "".join(f"{line}\n" for line in kept))
