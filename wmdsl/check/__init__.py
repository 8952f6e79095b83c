"""In: a closed spec. Out: the typed `Model`. Invariant: a Model is sound, or there is none."""

from wmdsl.check.check import check

__all__ = ["check"]
