"""Weights and work of a video U-Net: at which size each block works.

Half of the blocks lead down and half up, a remaining one stands in the middle; the blocks that lead
down share the resolutions evenly, and those that lead up mirror them.
"""

from __future__ import annotations

from collections.abc import Iterable

from wmdsl.check.model import TokenGroup, Trunk
from wmdsl.plan.nodes import Placed, Space
from wmdsl.plan.ranges import overlaps


def strides(trunk: Trunk) -> tuple[int, ...]:
    """Strides of the blocks that lead down: 2 where a resolution begins, but the first."""
    levels = [level(trunk, block) for block in range(trunk.layers // 2)]
    return tuple(
        2 if block and levels[block - 1] < own else 1 for block, own in enumerate(levels)
    )


def middle(trunk: Trunk) -> int:
    return trunk.layers % 2


def level(trunk: Trunk, block: int) -> int:
    """How often the maps are halved at a block."""
    levels, half = trunk.attributes["levels"], trunk.layers // 2
    mirrored = min(block, trunk.layers - 1 - block)
    return levels - 1 if mirrored == half else mirrored * levels // half


def cells(group: TokenGroup, halvings: int) -> int:
    """Cells of a frame that is halved so often."""
    rows, columns = group.grid or (1, group.per_frame)
    for _ in range(halvings):
        rows, columns = -(-rows // 2), -(-columns // 2)
    return rows * columns


def tokens_at(trunk: Trunk, groups: Iterable[Placed], block: int) -> int:
    """Cells of all frames at a block."""
    halvings = level(trunk, block)
    return sum(placed.group.frames * cells(placed.group, halvings) for placed in groups)


def seen_videos(space: Space, query: Placed) -> list[Placed]:
    """The groups of a space of which a group sees any token."""
    rows = [row for row in space.ranges if overlaps((row[0], row[1]), (query.start, query.end))]
    return [
        key
        for key in space.groups
        if any(overlaps((row[2], row[3]), (key.start, key.end)) for row in rows)
    ]


def unet_weights(trunk: Trunk) -> int:
    """All blocks: two 3 x 3 convolutions with their norms and numbers, one over time, two
    attentions; one convolution more on the way down and a double one on the way up."""
    width = trunk.width
    square = width * width
    frames = 2 * (2 * width + 9 * square + width) + 2 * square + 2 * width
    over_time = 2 * width + 3 * square + width
    heads = 2 * (2 * width + 4 * square + 4 * width)
    inward = 9 * square + width + 18 * square + width
    return trunk.layers * (frames + over_time + heads) + trunk.layers // 2 * inward


def unet_products(trunk: Trunk, space: Space, groups: tuple[Placed, ...]) -> int:
    """Multiply-adds of the blocks that run, attention included."""
    return sum(_block(trunk, space, groups, block) for block in range(space.layers))


def _block(trunk: Trunk, space: Space, groups: tuple[Placed, ...], block: int) -> int:
    width, half = trunk.width, trunk.layers // 2
    halvings, square = level(trunk, block), width * width
    inward = 9 if block < half else 18 if block >= trunk.layers - half else 0
    count = tokens_at(trunk, groups, block)
    total = count * (18 + 3 + 8 + inward) * square + len(groups) * 2 * square
    for placed in groups:
        own = placed.group.frames * cells(placed.group, halvings)
        frames = sum(other.group.frames for other in seen_videos(space, placed))
        total += 2 * own * width * (cells(placed.group, halvings) + frames)
    return total
