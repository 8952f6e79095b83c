"""Executor `triton`: the Triton kernels of modulated norm and gated residual on a CUDA device.

B batch, T tokens, W width, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from wmdsl_kernels.adaln.configurations import (
    SUM_CHANNELS,
    TOKENS_PER_PROGRAM,
    RowLaunch,
    row_launch,
)
from wmdsl_kernels.tensors import outer_strides, packed_like, unit_strided


def norm_forward(
    x: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor,
    lengths: Sequence[int],
    centred: bool,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [B, T, W], and per token the mean and the reciprocal deviation [B, T, 2] in fp32."""
    from wmdsl_kernels.adaln import triton_kernels as kernels

    tiles, _ = _tables(tuple(lengths), x.device)
    output = packed_like(x)
    statistics = torch.empty(*x.shape[:2], 2, dtype=torch.float32, device=x.device)
    kernels.norm_forward_kernel[(len(tiles), x.shape[0])](
        x,
        shift,
        scale,
        output,
        statistics,
        tiles,
        epsilon,
        x.shape[1],
        *outer_strides(x, shift, scale),
        CENTRED=centred,
        **_constants(x),
    )
    return output, statistics


def norm_backward(
    grad_output: torch.Tensor,
    x: torch.Tensor,
    scale: torch.Tensor,
    statistics: torch.Tensor,
    lengths: Sequence[int],
    centred: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of x [B, T, W], shift and scale [B, R, W]; deterministic."""
    from wmdsl_kernels.adaln import triton_kernels as kernels

    grad_output = unit_strided(grad_output)
    tiles, pointers = _tables(tuple(lengths), x.device)
    grad_x = packed_like(x)
    partial = torch.empty(x.shape[0], len(tiles), 2, x.shape[2], device=x.device)
    kernels.norm_backward_kernel[(len(tiles), x.shape[0])](
        grad_output,
        x,
        scale,
        statistics,
        grad_x,
        partial,
        tiles,
        x.shape[1],
        *outer_strides(grad_output, x, scale),
        CENTRED=centred,
        **_constants(x),
    )
    grad_shift, grad_scale = (
        _summed(partial[:, :, part], pointers, scale) for part in range(partial.shape[2])
    )
    return grad_x, grad_shift, grad_scale


def gate_forward(
    x: torch.Tensor, change: torch.Tensor, gate: torch.Tensor, lengths: Sequence[int]
) -> torch.Tensor:
    """Output [B, T, W]."""
    from wmdsl_kernels.adaln import triton_kernels as kernels

    tiles, _ = _tables(tuple(lengths), x.device)
    output = packed_like(x)
    kernels.gate_forward_kernel[(len(tiles), x.shape[0])](
        x,
        change,
        gate,
        output,
        tiles,
        x.shape[1],
        *outer_strides(x, change, gate),
        **_constants(x),
    )
    return output


def gate_backward(
    grad_output: torch.Tensor, change: torch.Tensor, gate: torch.Tensor, lengths: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of change [B, T, W] and gate [B, R, W]; deterministic."""
    from wmdsl_kernels.adaln import triton_kernels as kernels

    grad_output = unit_strided(grad_output)
    tiles, pointers = _tables(tuple(lengths), change.device)
    grad_change = packed_like(change)
    batch, length, width = change.shape
    partial = torch.empty(batch, len(tiles), width, device=change.device)
    kernels.gate_backward_kernel[(len(tiles), batch)](
        grad_output,
        change,
        gate,
        grad_change,
        partial,
        tiles,
        length,
        *outer_strides(grad_output, change, gate),
        **_constants(change),
    )
    return grad_change, _summed(partial, pointers, gate)


def _summed(partial: torch.Tensor, pointers: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Partial rows [B, tiles, W] added up over the tiles of each run: [B, R, W]."""
    from wmdsl_kernels.adaln import triton_kernels as kernels

    batch, runs, width = like.shape
    target = packed_like(like)
    kernels.run_sum_kernel[(runs, batch, -(-width // SUM_CHANNELS))](
        partial,
        target,
        pointers,
        partial.shape[1],
        partial.stride(1),
        CHANNELS=width,
        WIDTH=SUM_CHANNELS,
        num_warps=4,
    )
    return target


@cache
def _tables(lengths: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Tiles int32 [t, 3] (first token, stop, run) and the first tile of each run int32 [R + 1].

    Kept for good: a captured CUDA graph reads them where they lie.
    """
    tiles, pointers, start = [], [0], 0
    for run, length in enumerate(lengths):
        stop = start + length
        firsts = range(start, stop, TOKENS_PER_PROGRAM)
        tiles += [(first, min(first + TOKENS_PER_PROGRAM, stop), run) for first in firsts]
        pointers.append(len(tiles))
        start = stop
    numbers = dict(dtype=torch.int32, device=device)
    return torch.tensor(tiles, **numbers), torch.tensor(pointers, **numbers)


def _constants(tensor: torch.Tensor) -> dict[str, int]:
    launch: RowLaunch = row_launch(tensor.shape[2])
    return {
        "CHANNELS": tensor.shape[2],
        "WIDTH": launch.width,
        "ROWS": launch.rows,
        "num_warps": launch.warps,
    }
