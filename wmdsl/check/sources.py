"""How the sources of a coupling lie beside each other, and along the tokens of its target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from wmdsl.check.model import TokenGroup, TokenSource, Trunk

Written = list[TokenSource]  # one source as it is written: `state` may name two segments


def written(sources: Iterable[TokenSource]) -> list[Written]:
    """Sources by the item of the spec that names them."""
    return [list(items) for _, items in groupby(sources, key=attrgetter("span"))]


def frames_of(trunks: Mapping[str, Trunk], source: TokenSource) -> list[int]:
    """Frames of what a source reads: of its segment, or of each group of its trunk."""
    if source.segment is not None:
        return [source.segment.length]
    groups = trunks[source.trunk].groups
    return [group.frames for group in groups if not source.groups or group.name in source.groups]


def lies(source: Sequence[TokenSource], group: TokenGroup) -> str | None:
    """How the tokens of a source lie along those of a group; None where they do not fit.

    `one_by_one`; `over_frames`: one frame again for each; `within_frames`: one token for a frame.
    """
    count = sum(part.count for part in source)
    samples = sum(part.segment.length for part in source if part.segment is not None)
    if count == group.count:
        return "one_by_one"
    if count == group.per_frame and samples < 2:
        return "over_frames"
    return "within_frames" if count == group.frames else None
