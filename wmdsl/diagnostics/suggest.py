"""Did-you-mean: the nearest allowed word, or nothing."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that differs only in case, else the nearest within a third of the length."""
    names = sorted(set(candidates))
    folded = word.casefold()
    for name in names:
        if name.casefold() == folded:
            return name
    ranked = [(distance(folded, name.casefold()), name) for name in names]
    nearest, name = min(ranked, default=(len(word), ""))
    return name if name and nearest <= max(len(word), len(name)) // 3 else None


def distance(left: str, right: str) -> int:
    """Edits that turn `left` into `right`; swapping two neighbours counts as one."""
    before: list[int] = []
    above = list(range(len(right) + 1))
    for row, letter in enumerate(left, 1):
        line = [row]
        for column, other in enumerate(right, 1):
            cost = min(above[column] + 1, line[-1] + 1, above[column - 1] + (letter != other))
            if row > 1 and column > 1 and (left[row - 2], letter) == (other, right[column - 2]):
                cost = min(cost, before[column - 2] + 1)
            line.append(cost)
        before, above = above, line
    return above[-1]
