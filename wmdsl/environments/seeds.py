"""Seeds of episodes. Demonstrations take even numbers, evaluations odd ones: never the same."""

from __future__ import annotations

from enum import IntEnum

_EPISODES_PER_BASE = 2**20


class Purpose(IntEnum):
    """What an episode is for; the value is the parity of its seed."""

    DEMONSTRATION = 0
    EVALUATION = 1


def episode_seed(purpose: Purpose, base: int, number: int) -> int:
    """The simulator seed of episode `number` under the user's seed `base`.

    Distinct arguments give distinct seeds. Raises ValueError out of range.
    """
    if base < 0 or not 0 <= number < _EPISODES_PER_BASE:
        raise ValueError(
            f"seed {base} must be >= 0 and episode {number} in 0..{_EPISODES_PER_BASE - 1}"
        )
    return 2 * (base * _EPISODES_PER_BASE + number) + int(purpose)
