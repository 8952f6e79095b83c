"""The launch table of grouped products: tiles, warps and stages, checked in and static.

Every row compiles without a GPU and without spills (`tests/test_compile_gate_rows.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_EXPERTS = 8
"""A kernel holds the code of every expert; more of them are refused."""


@dataclass(frozen=True)
class Product:
    """Tile of the result [rows, columns], step along the summed axis, warps, pipeline stages."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


HALF = Product(128, 128, 64, warps=8, stages=3)
NARROW = Product(32, 128, 64, warps=4, stages=3)
SINGLE = Product(64, 64, 32, warps=4, stages=2)


def product_launch(most_rows: int, element_bytes: int) -> Product:
    """The launch of products whose largest result has so many rows."""
    if element_bytes == 4:
        return SINGLE
    return NARROW if most_rows <= NARROW.rows else HALF
