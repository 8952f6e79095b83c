"""What every worker process of a simulator does first."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import connection, parent_process


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def initialize_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone, even by `kill -9`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    connection.wait([parent_process().sentinel])
    os._exit(1)
