"""What others say of the systems: the talk, published sizes, reported successes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

SUITES = ("spatial", "object", "goal", "long", "avg")


@dataclass(frozen=True, slots=True)
class Talk:
    """A system as the talk names it and the paradigm under which it is filed there."""

    name: str
    paradigm: str


@dataclass(frozen=True, slots=True)
class Published:
    """A published count of parameters, and what of a plan it is compared with.

    `tolerance` is a share of `params`; `counted` is `all`, `trainable`, or owners of a plan's
    parameters, separated by blanks.
    """

    part: str
    params: int
    tolerance: float
    basis: str
    counted: str


@dataclass(frozen=True, slots=True)
class Facts:
    """By slug, which is the name of a spec's file; `reported` holds success in % by LIBERO suite.

    What a paper does not report is left out of `reported`.
    """

    talk: Mapping[str, Talk]
    published: Mapping[str, Published]
    reported: Mapping[str, Mapping[str, float]]

    @staticmethod
    def shipped() -> Facts:
        """The tables of this package."""
        return Facts(
            talk={row["slug"]: Talk(row["name"], row["paradigm"]) for row in _rows("talk.csv")},
            published={row["slug"]: _published(row) for row in _rows("published.csv")},
            reported={row["slug"]: _reported(row) for row in _rows("libero_reported.csv")},
        )


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("wmdsl.report").joinpath(name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def _published(row: Mapping[str, str]) -> Published:
    return Published(
        row["part"], int(row["params"]), float(row["tolerance"]), row["basis"], row["counted"]
    )


def _reported(row: Mapping[str, str]) -> dict[str, float]:
    return {suite: float(row[suite]) for suite in SUITES if row[suite]}
