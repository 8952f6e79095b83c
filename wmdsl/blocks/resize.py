"""Weights of one stack as the start of another of a different width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def resize(target: nn.Module, source: nn.Module) -> None:
    """Set each weight of `target` from the one of the same name in `source`.

    Weights are interpolated linearly along every axis; a matrix is scaled by the square root of
    the ratio of its inputs, so that its outputs keep their size.
    """
    given = dict(source.named_parameters())
    for name, weight in target.named_parameters():
        if name not in given or given[name].ndim != weight.ndim:
            continue
        value = given[name]
        ratio = value.shape[-1] / weight.shape[-1] if weight.ndim > 1 else 1.0
        for axis, size in enumerate(weight.shape):
            value = interpolated(value, axis, size)
        with torch.no_grad():
            weight.copy_(value * ratio**0.5)


def interpolated(x: Tensor, axis: int, size: int) -> Tensor:
    """The tensor with `size` evenly spaced places along an axis, both ends kept."""
    last = x.movedim(axis, -1)
    lines = last.reshape(-1, 1, last.shape[-1])
    stretched = functional.interpolate(lines, size, mode="linear", align_corners=True)
    return stretched.reshape(*last.shape[:-1], size).movedim(-1, axis)
