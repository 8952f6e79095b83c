"""`record`: a frozen dataclass with slots that is cheap to declare.

The front end declares about a hundred. The standard decorator compiles six methods for each, which
took a third of the time of a `check`; here one is compiled, `__init__`, and the others are shared.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

__all__ = ["field", "record"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(declared: type[T]) -> type[T]:
    """As `dataclass(frozen=True, slots=True)`, without inherited fields and keyword-only ones."""
    # A class without a docstring would get its signature as one, which is slow to find.
    declared.__doc__ = declared.__doc__ or declared.__name__
    cls: Any = dataclass(init=False, repr=False, eq=False, slots=True)(declared)
    cls.__init__ = _initializer(cls, fields(cls))
    cls._compared = property(_getter([part.name for part in fields(cls) if part.compare]))
    cls.__eq__, cls.__hash__, cls.__repr__ = _equal, _hash, _text
    cls.__setattr__ = cls.__delattr__ = _refuse
    cls.__reduce__ = _reduce
    return cls


def _initializer(cls: Any, parts: tuple[Field[Any], ...]) -> Any:
    """`__init__` of a record: it writes to the slots directly, past the refusing `__setattr__`."""
    scope: dict[str, Any] = {"_MISSING": MISSING}
    head, body = ["self"], []
    for part in parts:
        name = part.name
        scope[f"_set_{name}"] = getattr(cls, name).__set__
        if not part.init:
            continue
        if part.default is not MISSING:
            scope[f"_default_{name}"] = part.default
            head.append(f"{name}=_default_{name}")
        elif part.default_factory is not MISSING:
            scope[f"_make_{name}"] = part.default_factory
            head.append(f"{name}=_MISSING")
            body.append(f"if {name} is _MISSING: {name} = _make_{name}()")
        else:
            head.append(name)
        body.append(f"_set_{name}(self, {name})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    lines = "\n ".join(body or ["pass"])
    exec(f"def __init__({', '.join(head)}):\n {lines}", scope)
    return scope["__init__"]


def _getter(names: list[str]) -> Any:
    return attrgetter(*names) if names else lambda record: ()


def _equal(self: Any, other: object) -> bool:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self._compared == other._compared


def _hash(self: Any) -> int:
    return hash(self._compared)


def _text(self: Any) -> str:
    shown = (f"{p.name}={getattr(self, p.name)!r}" for p in fields(self) if p.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse(self: Any, name: str, value: object = None) -> None:
    raise FrozenInstanceError(f"cannot change field {name!r}")


def _reduce(self: Any) -> tuple[Any, ...]:
    return self.__class__, tuple(getattr(self, p.name) for p in fields(self) if p.init)
