"""Attention under a schedule.

In: query, key and value of one or several streams laid end to end, and a Schedule.
Out: the attention output, and the LSE where asked for.
Invariant: a back end honours the schedule exactly or refuses with a reason.
"""

from wmdsl_kernels.attention.decode import decode_attention
from wmdsl_kernels.attention.dispatch import attention, explain_dispatch

__all__ = ["attention", "decode_attention", "explain_dispatch"]
