"""The launch table of the Triton kernels: tile sizes, warps and stages, checked in and static.

There is no autotuning at run time. Every row compiles without a GPU for its architecture
(`tests/test_compile_gate.py`): no spills up to head dim 128, and the shared memory fits. Head dims
that are no power of two are padded and may spill a few registers.
"""

from __future__ import annotations

from dataclasses import dataclass

from wmdsl_kernels.schedule import Tiling

NARROW_ROWS = 32
"""A schedule whose query blocks are all this short (an action chunk) takes narrow tiles."""


@dataclass(frozen=True)
class Launch:
    """One kernel: tokens per step of its inner loop, warps, pipeline stages."""

    step: int
    warps: int
    stages: int
    descriptors: bool = False


@dataclass(frozen=True)
class Configuration:
    """The launches of one (head width, element size, architecture, tile kind)."""

    query_tile: int
    key_tile: int
    forward: Launch
    grad_query: Launch
    grad_key_value: Launch

    @property
    def tiling(self) -> Tiling:
        """How it wants a schedule cut: its tiles, with steps joined to whole ones."""
        return Tiling(self.query_tile, self.key_tile, self.query_tile, self.key_tile, twin=True)


HOPPER, AMPERE = 90, 80

HALF: dict[tuple[int, int], Configuration] = {
    (HOPPER, 32): Configuration(128, 128, Launch(128, 8, 3), Launch(64, 8, 2), Launch(64, 8, 2)),
    (HOPPER, 64): Configuration(128, 128, Launch(128, 8, 3), Launch(64, 8, 2), Launch(64, 8, 2)),
    (HOPPER, 128): Configuration(
        128, 128, Launch(64, 8, 3), Launch(64, 8, 2), Launch(32, 8, 2, descriptors=True)
    ),
    (HOPPER, 256): Configuration(128, 32, Launch(64, 8, 2), Launch(32, 8, 2), Launch(32, 8, 2)),
    (AMPERE, 32): Configuration(128, 64, Launch(64, 4, 3), Launch(64, 8, 2), Launch(32, 4, 2)),
    (AMPERE, 64): Configuration(128, 64, Launch(64, 4, 3), Launch(64, 8, 2), Launch(32, 4, 2)),
    (AMPERE, 128): Configuration(128, 64, Launch(64, 8, 2), Launch(32, 8, 2), Launch(32, 8, 2)),
    (AMPERE, 256): Configuration(64, 32, Launch(32, 8, 2), Launch(32, 8, 2), Launch(32, 8, 2)),
}
"""bf16 and fp16, by (architecture, head width)."""

SINGLE: dict[int, Configuration] = {
    32: Configuration(64, 64, Launch(32, 4, 2), Launch(32, 4, 2), Launch(32, 8, 2)),
    64: Configuration(32, 32, Launch(32, 4, 2), Launch(32, 4, 2), Launch(32, 8, 2)),
    128: Configuration(32, 32, Launch(16, 8, 2), Launch(16, 4, 2), Launch(32, 8, 2)),
    256: Configuration(32, 16, Launch(16, 8, 1), Launch(16, 8, 1), Launch(16, 8, 1)),
}
"""fp32 with exact products, by head width, on every architecture. dK/dV takes 8 warps: on 4, its
loop over the query heads of a key head spills hundreds of registers."""


def head_width(head_dim: int) -> int:
    """The power of two that holds the head dim, at least 32."""
    return max(32, 1 << (head_dim - 1).bit_length())


def configuration(
    capability: int, head_dim: int, element_bytes: int, longest_block: int
) -> Configuration:
    """The row for a GPU of `capability` (80 and above; newer ones use the newest rows)."""
    width = head_width(head_dim)
    if element_bytes == 4:
        return SINGLE[width]
    wide = HALF[HOPPER if capability >= HOPPER else AMPERE, width]
    return narrowed(wide) if longest_block <= NARROW_ROWS else wide


def narrowed(wide: Configuration) -> Configuration:
    """The same row for query tiles of a few rows: they need fewer warps."""
    return Configuration(
        NARROW_ROWS,
        wide.key_tile,
        Launch(32, 4, 2),
        Launch(32, 4, 2),
        wide.grad_key_value,
    )


DECODE_ROWS = (16, 32, 64)
"""The tiles of rows, query heads times tokens, that a decoding program takes; fp32 ends at 32."""


def decode_tile(rows: int, element_bytes: int) -> int:
    """The smallest tile that holds the rows, or the largest there is."""
    largest = DECODE_ROWS[1] if element_bytes == 4 else DECODE_ROWS[2]
    return min(largest, max(DECODE_ROWS[0], 1 << (rows - 1).bit_length()))


def decode_launch(width: int, element_bytes: int, tile: int) -> Launch:
    """The launch of a share of the keys for a tile of rows."""
    if element_bytes == 4:
        return Launch(32 if width <= 128 else 16, 8, 2)
    return Launch(64 if width <= 128 else 32, 4 if tile == DECODE_ROWS[0] else 8, 2)
