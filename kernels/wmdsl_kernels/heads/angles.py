"""Angles of rotary positions, float32, computed in float64; a `Projection` takes their cos and sin.

T tokens, A axes, H heads, K head dim. Places may be fractions: an action between two frames.
"""

from __future__ import annotations

import math

import torch


def line_angles(places: torch.Tensor, head_dim: int, base: float = 10000.0) -> torch.Tensor:
    """Angles [T, K / 2] of places [T] on one axis."""
    return axis_angles(places[:, None], (head_dim // 2,), base)


def axis_angles(
    places: torch.Tensor, pairs: tuple[int, ...], base: float = 10000.0
) -> torch.Tensor:
    """Angles [T, sum(pairs)] of places [T, A]; axis a turns `pairs[a]` pairs, side by side."""
    parts = []
    for axis, count in enumerate(pairs):
        rates = base ** (-torch.arange(count, dtype=torch.float64, device=places.device) / count)
        parts.append(torch.outer(places[:, axis].double(), rates))
    return torch.cat(parts, dim=1).float()


def video_pairs(head_dim: int) -> tuple[int, int, int]:
    """Pairs of (frame, row, column): a third of the channels each, the first takes the rest."""
    side = head_dim // 6
    return head_dim // 2 - 2 * side, side, side


def inner_angles(
    fractions: torch.Tensor, heads: int, head_dim: int, base: float = 10000.0
) -> torch.Tensor:
    """Angles [T, H, K / 2] that run over all heads: each head turns at rates of its own.

    `fractions` [T, A] are places as shares 0..1 of each axis. The axes alternate from pair to pair;
    the first pairs, which the axes do not divide evenly, stay unturned.
    """
    axes = fractions.shape[1]
    pairs = heads * head_dim // 2
    count = pairs // axes
    exponents = torch.linspace(0, 1, count, dtype=torch.float64, device=fractions.device)
    rates = 0.5 * math.pi * base**exponents
    turned = (2 * fractions.double() - 1)[:, None, :] * rates[:, None]  # [T, count, A]
    still = turned.new_zeros(len(fractions), pairs - count * axes)
    angles = torch.cat([still, turned.flatten(1)], dim=1)
    return angles.view(len(fractions), heads, head_dim // 2).float()
