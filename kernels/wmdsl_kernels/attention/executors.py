"""The executors of a schedule by name.

Each is a module with `refusal(request)`, `forward(...)` and `backward(...)` of one signature.
Importing them is cheap: what is heavy (a build, Triton) happens when they first run.
"""

from __future__ import annotations

from wmdsl_kernels.attention import cpu, rectangles

EXECUTORS = {"cpu": cpu, "rectangles": rectangles}
"""In the order of preference."""
