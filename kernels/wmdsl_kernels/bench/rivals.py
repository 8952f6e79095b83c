"""What the executors are timed against; each rival honours the same mask."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch.nn import functional

from wmdsl_kernels.attention import xformers_attention as xformers
from wmdsl_kernels.attention.refusals import NEWEST_CUTLASS
from wmdsl_kernels.bench.workloads import Workload
from wmdsl_kernels.exporters import to_additive_bias, to_block_mask
from wmdsl_kernels.tensors import capability

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""query, key, value -> output, all [B, T, H, K]."""


def compiled(run: Callable) -> Callable:
    """`run` through torch.compile, with nothing left of what was compiled before.

    Else the workloads before would count towards the recompilations (eight) after which a function
    silently runs eagerly, and their shapes would make those of this one dynamic.
    """
    torch.compiler.reset()
    return torch.compile(run)


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
    return compiled(dense_mask_sdpa(workload, device))


def flex_attention(workload: Workload, device: torch.device) -> Attention:
    """Compiled FlexAttention with a BlockMask made beforehand."""
    from torch.nn.attention.flex_attention import flex_attention as flex

    block_mask = to_block_mask(workload.schedule, device)
    run = compiled(flex)
    grouped = workload.query_heads != workload.key_heads

    def attend(query, key, value):
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        output = run(query, key, value, block_mask=block_mask, enable_gqa=grouped)
        return output.transpose(1, 2)

    return attend


def xformers_attention(workload: Workload, device: torch.device) -> Attention:
    """xformers' memory-efficient attention with the mask as an additive bias."""
    from xformers.ops import memory_efficient_attention

    group = workload.query_heads // workload.key_heads

    @cache
    def bias(dtype: torch.dtype) -> torch.Tensor:
        plane = to_additive_bias(workload.schedule, dtype, device)
        return plane.expand(workload.batch, workload.query_heads, -1, -1)

    def attend(query, key, value):
        key, value = (tensor.repeat_interleave(group, dim=2) for tensor in (key, value))
        return memory_efficient_attention(query, key, value, attn_bias=bias(query.dtype))

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
    fits = xformers.missing() is None and capability(device) <= NEWEST_CUTLASS
    return [*names, "xformers"] if fits else names
