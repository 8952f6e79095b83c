"""What loading has done: per part, what was used, missing and unused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PartReport:
    """`used` and `unused` are names in the checkpoint, `missing` names in the module.

    `notes` say in words what else was set, or differs from what the checkpoint was trained with.
    """

    title: str  # `trunk lm`
    hub: str
    used: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """The counts, then the names of what did not find its place."""
        yield f"{self.title} from {self.hub}: {len(self.used)} tensors used"
        for what, names in (("keep random weights", self.missing), ("unused", self.unused)):
            if names:
                more = ", ..." if len(names) > 6 else ""
                yield f"  {len(names)} {what}: {', '.join(names[:6])}{more}"
        yield from (f"  {note}" for note in self.notes)


@dataclass(frozen=True, slots=True)
class Report:
    """`source` is `random`, `hub` or a folder."""

    source: str
    parts: tuple[PartReport, ...] = field(default=())

    def lines(self) -> Iterator[str]:
        if self.source == "random":
            yield "pretrained weights: none, as asked; every part starts from random weights"
        for part in self.parts:
            yield from part.lines()
