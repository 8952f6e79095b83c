"""Teachers that follow their students."""

from __future__ import annotations

from torch import nn


def follow(teacher: nn.Module, student: nn.Module, rate: float) -> None:
    """teacher = rate * teacher + (1 - rate) * student, for every weight."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - rate)
