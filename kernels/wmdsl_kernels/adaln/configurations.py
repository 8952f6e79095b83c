"""How the Triton kernels cut rows: static, by the width alone, so nothing is tuned at run time.

Every width class compiles without a GPU and without spills (`tests/test_compile_gate.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

WIDEST = 8192
"""A row is held in registers; wider ones are refused."""
ELEMENTS_PER_STEP = 4096
TOKENS_PER_PROGRAM = 16
SUM_CHANNELS = 256
"""Channels that a program of the last sum adds up."""


@dataclass(frozen=True)
class RowLaunch:
    """One step of a program: `rows` tokens of `width` channels on `warps` warps."""

    width: int
    rows: int
    warps: int


def row_launch(channels: int) -> RowLaunch:
    """The launch for rows of `channels`: the power of two that holds them, a few tokens a step."""
    width = max(32, 1 << (channels - 1).bit_length())
    rows = min(TOKENS_PER_PROGRAM, max(1, ELEMENTS_PER_STEP // width))
    return RowLaunch(width, rows, warps=16 if width > ELEMENTS_PER_STEP else 8)
