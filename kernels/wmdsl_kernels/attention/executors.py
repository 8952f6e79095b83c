"""The executors of a schedule by name.

Each is a module with `refusal(request)`, `tiles(request)` (how fine it wants the schedule cut),
`forward(...)` and `backward(...)` of one signature.
Importing them is cheap: what is heavy (a build, Triton) happens when they first run.
"""

from __future__ import annotations

from wmdsl_kernels.attention import cpu, rectangles, triton_executor

EXECUTORS = {"cpu": cpu, "triton": triton_executor, "rectangles": rectangles}
"""In the order of preference."""
