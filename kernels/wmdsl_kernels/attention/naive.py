"""Attention in float64 from the definition: the only truth that executors are tested against.

B batch, T query tokens, S key tokens, H query heads, G key heads, K head dim.
"""

from __future__ import annotations

import torch

from wmdsl_kernels.schedule import Schedule


def naive_attention(
    query: torch.Tensor,  # [B, T, H, K]
    key: torch.Tensor,  # [B, S, G, K]
    value: torch.Tensor,  # [B, S, G, K]
    schedule: Schedule | None = None,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, H, K] and natural-log LSE [B, H, T], both float64 and differentiable.

    A query that sees no key has output 0, LSE -inf and no gradient.
    """
    group = query.shape[2] // key.shape[2]
    schedule = schedule or Schedule.dense(query.shape[1], key.shape[1])
    visible = schedule.to_dense_mask(query.device)  # [T, S]
    keys = key.double().repeat_interleave(group, dim=2)
    values = value.double().repeat_interleave(group, dim=2)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = torch.einsum("bthk,bshk->bhts", query.double(), keys) * scale
    scores = scores.masked_fill(~visible, -torch.inf)
    sees_nothing = ~visible.any(dim=-1)  # [T]
    finite = scores.masked_fill(sees_nothing[:, None], 0.0)
    lse = finite.logsumexp(dim=-1).masked_fill(sees_nothing, -torch.inf)
    weights = finite.softmax(dim=-1).masked_fill(sees_nothing[:, None], 0.0)
    return torch.einsum("bhts,bshk->bthk", weights, values), lse


def naive_decode(
    query: torch.Tensor,  # [B, A, H, K]
    key_pool: torch.Tensor,  # [P, G, K]
    value_pool: torch.Tensor,  # [P, G, K]
    slots: torch.Tensor,  # [B, S], -1 where absent
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, A, H, K] and LSE [B, H, A] over the present slots, in float64."""
    results = []
    for sample, places in zip(query, slots, strict=True):
        present = places >= 0
        rows = [(0, len(sample), int(key), int(key) + 1) for key in present.nonzero()]
        schedule = Schedule.from_ranges(len(sample), len(places), rows)
        index = places.clamp(min=0).long()
        keys, values = key_pool[index][None], value_pool[index][None]
        results.append(naive_attention(sample[None], keys, values, schedule))
    outputs, lses = zip(*results, strict=True)
    return torch.cat(outputs), torch.cat(lses)
