"""Steps of generation. B batch, T tokens, C features, V vocabulary."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Generator, Tensor


def descending(steps: int, stop: float = 0.0) -> list[tuple[float, float]]:
    """(now, then) of equal steps from 1 (noise) to `stop`; 0 is clean."""
    times = [1 - (1 - stop) * step / steps for step in range(steps + 1)]
    return list(pairwise(times))


def levels_on(like: Tensor, path: list | float) -> Tensor:
    """A path's numbers [steps, ...] with the dtype and device of `like`.

    A GPU writes them itself: copied from the host it would wait for them, and a CUDA graph cannot.
    """
    if like.is_cpu:
        return like.new_tensor(path)
    if isinstance(path, (int, float)):
        return like.new_full((), path)
    return torch.stack([levels_on(like, part) for part in path])


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal noise with the dtype and device of `like`."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def drawn(logits: Tensor, generator: Generator | None) -> Tensor:
    """An index from each distribution: logits [..., V] -> [...]."""
    shares = logits.softmax(dim=-1)
    draw = torch.multinomial(shares.flatten(0, -2), 1, generator=generator)
    return draw.view(shares.shape[:-1])


def revealed(
    index_BT: Tensor, logits_BTV: Tensor, mask: int, then: float, generator: Generator | None
) -> Tensor:
    """Masked tokens drawn; the least likely ones stay masked, sin(pi / 2 then) of all tokens."""
    hidden = index_BT == mask
    draw = drawn(logits_BTV, generator)
    chance = logits_BTV.softmax(dim=-1).gather(2, draw[..., None])[..., 0]
    chance = chance.masked_fill(~hidden, torch.inf)
    left = math.floor(index_BT.shape[1] * math.sin(math.pi / 2 * then))
    least = chance.argsort(dim=1, stable=True)[:, :left]
    return torch.where(hidden, draw, index_BT).scatter(1, least, mask)
