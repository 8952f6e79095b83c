"""What the executors are timed against; each rival honours the same mask."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch.nn import functional

from wmdsl_kernels.bench.workloads import Workload

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""query, key, value -> output, all [B, T, H, K]."""


def dense_mask_sdpa(workload: Workload, device: torch.device) -> Attention:
    """torch's attention under the dense boolean mask; key heads are repeated, as it needs."""
    mask = workload.schedule.to_dense_mask(device)
    group = workload.query_heads // workload.key_heads

    def attend(query, key, value):
        key, value = (tensor.repeat_interleave(group, dim=2) for tensor in (key, value))
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        output = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return output.transpose(1, 2)

    return attend


def compiled_sdpa(workload: Workload, device: torch.device) -> Attention:
    """The same through torch.compile."""
    return torch.compile(dense_mask_sdpa(workload, device))


def flex_attention(workload: Workload, device: torch.device) -> Attention:
    """Compiled FlexAttention with a BlockMask made beforehand."""
    from torch.nn.attention.flex_attention import flex_attention as flex

    from wmdsl_kernels.exporters import to_block_mask

    block_mask = to_block_mask(workload.schedule, device)
    run = torch.compile(flex)
    grouped = workload.query_heads != workload.key_heads

    def attend(query, key, value):
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        output = run(query, key, value, block_mask=block_mask, enable_gqa=grouped)
        return output.transpose(1, 2)

    return attend


def xformers_attention(workload: Workload, device: torch.device) -> Attention:
    """xformers' memory-efficient attention with the mask as an additive bias."""
    from xformers.ops import memory_efficient_attention

    mask = workload.schedule.to_dense_mask(device)
    group = workload.query_heads // workload.key_heads

    def attend(query, key, value):
        key, value = (tensor.repeat_interleave(group, dim=2) for tensor in (key, value))
        shape = (query.shape[0], query.shape[2], *mask.shape)
        bias = torch.zeros(mask.shape, dtype=query.dtype, device=device)
        bias = bias.masked_fill(~mask, -torch.inf).expand(shape)
        return memory_efficient_attention(query, key, value, attn_bias=bias)

    return attend


RIVALS = {
    "sdpa": dense_mask_sdpa,
    "sdpa-compiled": compiled_sdpa,
    "flex": flex_attention,
    "xformers": xformers_attention,
}


def available(device: torch.device) -> list[str]:
    """The rivals worth a row here: FlexAttention and xformers do not train on a CPU."""
    if device.type == "cpu":
        return ["sdpa", "sdpa-compiled"]
    names = ["sdpa", "sdpa-compiled", "flex"]
    return [*names, "xformers"] if find_spec("xformers") else names
