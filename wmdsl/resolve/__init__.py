"""In: `ast.File`. Out: `Spec`, one closed model. Invariant: each value keeps its origin."""

from wmdsl.resolve.resolve import resolve
from wmdsl.resolve.spec import Spec

__all__ = ["Spec", "resolve"]
