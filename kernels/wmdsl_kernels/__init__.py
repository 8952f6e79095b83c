"""Kernels for several token streams that attend jointly under a mask known before run time.

schedule = Schedule.from_ranges(query_length, key_length, rows)
output = attention(query, key, value, schedule)
"""

from wmdsl_kernels.adaln import gated_residual, modulated_norm
from wmdsl_kernels.attention import attention, decode_attention, explain_dispatch
from wmdsl_kernels.errors import ArgumentError, DispatchError, KernelError, ScheduleError
from wmdsl_kernels.grouped import grouped_linear
from wmdsl_kernels.heads import Projection, cached_heads, joint_heads, rotated_heads
from wmdsl_kernels.schedule import Schedule

__all__ = [
    "ArgumentError",
    "DispatchError",
    "KernelError",
    "Projection",
    "Schedule",
    "ScheduleError",
    "attention",
    "cached_heads",
    "decode_attention",
    "explain_dispatch",
    "gated_residual",
    "grouped_linear",
    "joint_heads",
    "modulated_norm",
    "rotated_heads",
]
