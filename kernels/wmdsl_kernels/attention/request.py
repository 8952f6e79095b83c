"""The facts about one attention call that back ends accept or refuse; no torch, no tensors."""

from __future__ import annotations

from dataclasses import dataclass

from wmdsl_kernels.schedule import Schedule, Tiling

ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Request:
    """A checked call: shapes, dtype and device fit each other and the schedule.

    `device` is torch's name of its type, `dtype` torch's name without the `torch.`.
    """

    device: str
    dtype: str
    batch: int
    query_length: int
    key_length: int
    query_heads: int
    key_heads: int
    head_dim: int
    schedule: Schedule | None
    needs_gradient: bool = False
    wants_lse: bool = False
    unit_stride: bool = True
    """Whether the head dim of all three tensors is contiguous."""
    capability: int | None = None
    """Of the GPU, as one number, 90 for Hopper; None where it is not known."""
    processors: int | None = None
    """Of the GPU; None where it is not known."""
    traced: bool = False
    """Whether torch.compile or torch.export is looking on."""

    @property
    def shared_range(self) -> tuple[int, int] | None:
        """The one key range that all queries see, or None."""
        return (0, self.key_length) if self.schedule is None else self.schedule.shared_range

    @property
    def has_empty_rows(self) -> bool:
        """Whether some query sees no key."""
        return self.schedule is not None and self.schedule.has_empty_rows

    def longest_query_block(self, joined: int) -> int:
        """The most queries side by side that see the same keys, with steps of a stair (`stairs.py`)
        joined to at most `joined` queries."""
        return self.query_length if self.schedule is None else self.schedule.longest_block(joined)

    def query_tiles(self, tiling: Tiling) -> int:
        """How many query tiles this tiling cuts it into."""
        if self.schedule is None:
            return -(-self.query_length // tiling.query_tile)
        return self.schedule.query_tiles(tiling)

    @property
    def most_keys(self) -> int:
        """The most keys that a query sees."""
        return self.key_length if self.schedule is None else self.schedule.most_keys
