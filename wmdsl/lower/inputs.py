"""What is special in one pass: noisy tokens and their times, masks, what was handed over."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from wmdsl.lower.program import Expression

GroupName = tuple[str, str]


@dataclass(slots=True)
class Inputs:
    """`tokens` by group: noisy, pinned and masked ones; `features` by group: what was handed over;
    `times` [B, 1] by segment, [B, F] of those in `per_frame`, and by the name of a copy's group
    that is noised again; `schedules` by space: masks drawn at run time; `held` by (segment, time):
    tokens that a tap at that time reads."""

    tokens: dict[GroupName, Expression] = field(default_factory=dict)
    features: dict[GroupName, Expression] = field(default_factory=dict)
    times: dict[str, Expression] = field(default_factory=dict)
    per_frame: set[str] = field(default_factory=set)
    schedules: dict[str, Expression] = field(default_factory=dict)
    held: dict[tuple[str, Fraction], Expression] = field(default_factory=dict)
