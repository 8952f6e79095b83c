"""The executors of a schedule by name.

Each is a module with `missing()` (what the machine lacks), `tiling(request)` (how it wants the
schedule cut), `forward(...)` and `backward(...)` of one signature. What they cannot take by its
facts alone is in `refusals.py`.
Importing them is cheap: what is heavy (a build, Triton) happens when they first run.
"""

from __future__ import annotations

from wmdsl_kernels.attention import cpu, rectangles, triton_executor

EXECUTORS = {"cpu": cpu, "triton": triton_executor, "rectangles": rectangles}
