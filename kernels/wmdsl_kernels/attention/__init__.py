"""Attention under a schedule.

In: query, key and value of one or several streams laid end to end, and a Schedule.
Out: the attention output, and the LSE where asked for.
Invariant: a back end honours the schedule exactly or refuses with a reason.

Importing this loads no torch: what back ends refuse is known without it (`refusals.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from wmdsl_kernels.schedule import Schedule


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Schedule | None = None,
    *,
    scale: float | None = None,
    return_lse: bool = False,
    backend: str | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """softmax(query key^T * scale) value over the visible pairs, per head.

    query [B, T, H, K], key and value [B, S, G, K] with H a multiple of G -> [B, T, H, K], and with
    `return_lse` also the natural-log LSE [B, H, T]. `schedule` None lets every query see every key;
    `scale` None is K ** -0.5. A query that sees no key gets output 0 and LSE -inf.
    Under autocast the three tensors take its dtype, as in torch's own attention.
    Raises ArgumentError, ScheduleError, or DispatchError where no back end, or not the named one,
    takes the call.
    """
    from wmdsl_kernels.attention.dispatch import attend

    return attend(query, key, value, schedule, scale, return_lse, backend)


def explain_dispatch(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    schedule: Schedule | None = None,
    *,
    return_lse: bool = False,
) -> list[tuple[str, bool, str]]:
    """(back end, whether it accepts, why not) in the order of preference; meta tensors will do."""
    from wmdsl_kernels.attention.dispatch import explain

    return explain(query, key, value, schedule, return_lse)


def decode_attention(
    query: torch.Tensor,
    key_pool: torch.Tensor,
    value_pool: torch.Tensor,
    slots: torch.Tensor,
    *,
    scale: float | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention of query [B, A, H, K] to the pool rows named by `slots`, without a gradient.

    key_pool and value_pool [P, G, K]; slots int32 [B, S], -1 where a slot is absent -> output
    [B, A, H, K], and with `return_lse` the natural-log LSE [B, H, A]. A sample without a slot gets
    output 0 and LSE -inf. Raises ArgumentError for shapes, dtypes and devices that do not fit, and
    on a CPU for a slot beyond the pool; on a GPU slots are not checked.
    """
    from wmdsl_kernels.attention.decode import decode

    return decode(query, key_pool, value_pool, slots, scale, return_lse)


__all__ = ["attention", "decode_attention", "explain_dispatch"]
