"""How the Triton kernels cut heads: static, by the number of heads and the head dim.

Every row compiles without a GPU and without spills (`tests/test_compile_gate_rows.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

WIDEST = 8192
"""All heads of a token are held in registers; wider ones are refused."""
PAIRS_PER_STEP = 2048
TOKENS_PER_PROGRAM = 16


@dataclass(frozen=True)
class HeadLaunch:
    """One step of a program: `rows` tokens of `heads` x `pairs`, on `warps` warps."""

    heads: int
    key_heads: int
    pairs: int
    rows: int
    warps: int


def tile_width(heads: int, head_dim: int) -> int:
    """Channels of a token in whole powers of two: what a program holds at a time."""
    return 2 * _power_of_two(heads) * _power_of_two((head_dim + 1) // 2)


def head_launch(heads: int, key_heads: int, head_dim: int) -> HeadLaunch:
    """The launch for so many heads of a head dim."""
    pairs = _power_of_two((head_dim + 1) // 2)
    held = _power_of_two(heads) * pairs
    rows = min(TOKENS_PER_PROGRAM, max(1, PAIRS_PER_STEP // held))
    warps = 16 if held > PAIRS_PER_STEP else 8
    return HeadLaunch(_power_of_two(heads), _power_of_two(key_heads), pairs, rows, warps)


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()
