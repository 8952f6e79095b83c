"""Long jobs side by side: each a process of its own with one thread, a log and a bar."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wmdsl.runtime import errors

COUNT = re.compile(r": (\d+)/(\d+)  (.*)")
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """Commands of the `wmdsl` program run in turn; a command already `done` is not run again."""

    title: str
    log: Path
    commands: tuple[tuple[str, ...], ...]


@dataclass(slots=True)
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    command: int = 0


def run_jobs(jobs: Sequence[Job], workers: int, progress: bool = True) -> None:
    """Run all jobs, `workers` at a time; the first failure stops the others and is raised.

    Progress is read from the last line of each log, so that a bar moves for every job.
    """
    waiting, running = list(jobs), []
    threads = max(1, (os.cpu_count() or 1) // max(1, min(workers, len(waiting))))
    with _board(progress) as board:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    running.append(_start(waiting.pop(0), 0, threads))
                time.sleep(POLL_SECONDS)
                running = [left for one in running if (left := _advance(one, threads))]
                board.show(running, len(jobs) - len(waiting) - len(running), len(jobs))
        except BaseException:
            for one in running:
                one.process.terminate()
            for one in running:
                one.process.wait()
            raise


def _start(job: Job, command: int, threads: int) -> _Running:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(threads), "WMDSL_PROGRESS_SECONDS": "2",
    }  # fmt: skip
    with open(job.log, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "wmdsl.tools.cli", *job.commands[command]],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
        )  # fmt: skip
    return _Running(job, process, command)


def _advance(one: _Running, threads: int) -> _Running | None:
    """The job's next state; None when it is finished."""
    status = one.process.poll()
    if status is None:
        return one
    if status != 0:
        raise _failed(one.job, status)
    if one.command + 1 < len(one.job.commands):
        return _start(one.job, one.command + 1, threads)
    return None


def _failed(job: Job, status: int) -> errors.RunError:
    tail = job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
    return errors.RunError(
        "WM879", f"{job.title} ended with exit code {status}:\n  " + "\n  ".join(tail), job.log,
        "mend what the log says and start again: finished parts are kept",
    )  # fmt: skip


def last_count(log: Path) -> tuple[int, int, str] | None:
    """(done, total, rest) of the newest progress line in a log."""
    with open(log, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 2000))
        found = COUNT.findall(stream.read().decode("utf-8", "replace"))
    return (int(found[-1][0]), int(found[-1][1]), found[-1][2]) if found else None


def _board(progress: bool) -> _Board:
    if progress and sys.stderr.isatty():
        return _Bars()
    return _Lines() if progress else _Board()


class _Board:
    """Shows nothing."""

    def __enter__(self) -> _Board:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, running: Sequence[_Running], finished: int, total: int) -> None: ...


class _Lines(_Board):
    """A line per running job every half minute."""

    EVERY = 30.0

    def __init__(self) -> None:
        self.last = time.monotonic()

    def show(self, running: Sequence[_Running], finished: int, total: int) -> None:
        if time.monotonic() - self.last < self.EVERY:
            return
        self.last = time.monotonic()
        for one in running:
            count = last_count(one.job.log)
            told = f"{count[0]}/{count[1]}  {count[2]}" if count else "starting"
            print(f"{one.job.title}: {told}", file=sys.stderr, flush=True)


class _Bars(_Board):
    """One rich bar per running job and one for all."""

    def __enter__(self) -> _Board:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed(),
                   TextColumn("{task.fields[told]}"))  # fmt: skip
        self.bars = Progress(*columns, console=Console(stderr=True))
        self.tasks: dict[str, object] = {}
        self.all = self.bars.add_task("all jobs", total=None, told="")
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def show(self, running: Sequence[_Running], finished: int, total: int) -> None:
        self.bars.update(self.all, total=total, completed=finished)
        names = {one.job.title for one in running}
        for title in [title for title in self.tasks if title not in names]:
            self.bars.remove_task(self.tasks.pop(title))
        for one in running:
            title = one.job.title
            if title not in self.tasks:
                self.tasks[title] = self.bars.add_task(title, total=None, told="starting")
            count = last_count(one.job.log)
            if count:
                self.bars.update(
                    self.tasks[title], completed=count[0], total=count[1], told=count[2]
                )
