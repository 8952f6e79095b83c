"""Records behave as frozen dataclasses with slots; the standard decorator is the reference."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, fields, replace

import pytest

from wmdsl.record import field, record


def declared(decorate):
    class Point:
        """A place."""

        x: int
        y: int = 0
        marks: list[int] = field(default_factory=list, compare=False)
        note: str = field(default="", repr=False)
        total: int = field(init=False, compare=False)

        def __post_init__(self) -> None:
            type(self).total.__set__(self, self.x + self.y)

    return decorate(Point)


Standard = declared(dataclass(frozen=True, slots=True))
Point = declared(record)


@record
class Pair:
    left: int
    right: int = field(compare=False)


@record
class Nothing:
    pass


@pytest.mark.parametrize("cls", [Standard, Point])
def test_as_the_standard_decorator(cls):
    one = cls(1, marks=[3], note="n")
    assert (one.x, one.y, one.marks, one.note, one.total) == (1, 0, [3], "n", 1)
    assert one == cls(1, marks=[4], note="n") != cls(1, note="m") and one != (1, 0, "n")
    assert hash(one) == hash(cls(1, marks=[4], note="n"))
    assert repr(one) == "declared.<locals>.Point(x=1, y=0, marks=[3], total=1)"
    assert replace(one, y=5).total == 6 and cls(1).marks is not cls(1).marks
    assert [part.name for part in fields(cls)] == ["x", "y", "marks", "note", "total"]
    with pytest.raises(FrozenInstanceError):
        one.x = 2
    with pytest.raises(FrozenInstanceError):
        del one.x
    with pytest.raises(TypeError):
        cls()
    assert not hasattr(one, "__dict__")


def test_one_compared_field_or_none():
    assert Pair(1, 2) == Pair(1, 3) != Pair(2, 3) and hash(Pair(1, 2)) == hash(Pair(1, 3))
    assert Nothing() == Nothing() and Nothing() != Pair(1, 2) and repr(Nothing()) == "Nothing()"


def test_copies_and_pickles():
    pair = Pair(1, 2)
    for again in (copy.copy(pair), copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        assert again == pair and again.right == 2
