"""Ways of several segments through noise levels, beside each other."""

from __future__ import annotations

Pair = tuple[float, float]  # (now, then) of a step


def abreast(*paths: list[Pair]) -> list[tuple[Pair, ...]]:
    """The steps of all paths side by side, as many as the longest has.

    A shorter path moves at the beginning of its share of them, ahead of the others, and waits for
    the rest of it: its `now` is then its `then`.
    """
    count = max(map(len, paths))
    return [tuple(paced(path, step, count) for path in paths) for step in range(count)]


def paced(path: list[Pair], step: int, count: int) -> Pair:
    """What a path does in one of `count` steps, of which it moves in as many as it has."""
    place = step * len(path) // count
    now, then = path[place]
    moves = step == 0 or place > (step - 1) * len(path) // count
    return (now if moves else then), then
