"""Numbers for people: `5.05 M`, `2.51 GFLOP`, `684 KiB`."""

from __future__ import annotations

SI = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
BINARY = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def count(number: float) -> str:
    """`5.05 M`, `12.3 k`, `968`."""
    for size, unit in SI:
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def flops(number: int) -> str:
    """`2.51 GFLOP`."""
    text = count(number)
    return f"{text}FLOP" if " " in text else f"{text} FLOP"


def memory(number: int) -> str:
    """`684 KiB`."""
    for size, unit in BINARY:
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} B"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def hertz(rate: float) -> str:
    return f"{rate:g} Hz"
