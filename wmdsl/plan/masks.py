"""From `attend` rows to key ranges per block of query rows.

Every token has an order key: what `order GROUP by ...` says, else its place in the sequence.  A
relation of a row compares the keys q of the query and k of the key token, and must be linear in
both; so the keys that one query sees are an interval of key values.  Order keys may use `frame`
and `step` (index of the sample in its stream's window), `row` and `column` of a grid, and `token`
(index in the group); `/` rounds down.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise

from wmdsl.check.model import Attend, Model, Rule, TokenGroup
from wmdsl.plan.nodes import Placed, Row
from wmdsl.plan.ranges import Span, canonical
from wmdsl.syntax.ast import Arithmetic, Number, Order, Reference, Relation

GroupName = tuple[str, str]


def attention_rows(
    model: Model, placed: Sequence[Placed], attend: Attend | None, causal: bool
) -> tuple[Row, ...]:
    """The rows of one attention space.

    Without an attend every token sees all, or in a causal space those up to itself.  With one,
    exactly what its rows say.
    """
    if attend is None:
        return _default_rows(placed, causal)
    ordered = {
        name for rule in attend.rules if rule.relations for name in rule.subjects + rule.objects
    }
    runs = {
        entry.key: _runs(model, entry, attend.orders) if entry.key in ordered else _one_run(entry)
        for entry in placed
    }
    blocks = (
        (block, keys) for entry in placed for block, keys in _blocks(entry.key, attend.rules, runs)
    )
    return canonical(blocks)


def _default_rows(placed: Sequence[Placed], causal: bool) -> tuple[Row, ...]:
    tokens = placed[-1].end
    if not causal:
        return ((0, tokens, 0, tokens),)
    return tuple((place, place + 1, 0, place + 1) for place in range(tokens))


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring tokens of a group with one order key."""

    key: Fraction
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs of a group in order of their keys; `ascending` if tokens stand in that order."""

    runs: tuple[_Run, ...]
    keys: tuple[Fraction, ...]
    ascending: bool

    def between(self, low: int, high: int) -> list[Span]:
        """Tokens of the runs low (included) to high (excluded)."""
        if low >= high:
            return []
        if self.ascending:
            return [(self.runs[low].start, self.runs[high - 1].end)]
        return [(run.start, run.end) for run in self.runs[low:high]]


def _one_run(entry: Placed) -> _Runs:
    return _Runs((_Run(Fraction(0), entry.start, entry.end),), (Fraction(0),), ascending=True)


def _runs(model: Model, entry: Placed, orders: Iterable[Order]) -> _Runs:
    order = next((order for order in orders if _speaks_of(order, entry.group)), None)
    keys = [
        Fraction(entry.start + index) if order is None else key_of(order.key, place)
        for index, place in enumerate(_places(model, entry.group))
    ]
    runs, place = [], entry.start
    for key, tokens in groupby(keys):
        length = len(list(tokens))
        runs.append(_Run(key, place, place + length))
        place += length
    ascending = all(left.key < right.key for left, right in pairwise(runs))
    runs.sort(key=lambda run: run.key)
    return _Runs(tuple(runs), tuple(run.key for run in runs), ascending)


def _speaks_of(order: Order, group: TokenGroup) -> bool:
    subject = order.subject
    names = (group.name, group.segment.stream, group.segment.reference)
    return isinstance(subject, Reference) and subject.dotted in names


def _places(model: Model, group: TokenGroup) -> Iterator[Mapping[str, int]]:
    """What an order key may use, for each token of the group."""
    stream = model.streams[group.segment.stream]
    first = stream.start(group.segment.name)
    columns = group.grid[1] if group.grid else 1
    for token in range(group.count):
        frame, inside = divmod(token, group.per_frame)
        sample = first + frame * group.segment.length // group.frames
        row, column = divmod(inside, columns)
        yield {"frame": sample, "step": sample, "row": row, "column": column, "token": token}


def key_of(key: Arithmetic, place: Mapping[str, int]) -> Fraction:
    """The value of an order key at a token; KeyError for a name that no token has."""
    if isinstance(key, Number):
        return key.value
    if isinstance(key, Reference):
        return Fraction(place[key.dotted])
    left, right = key_of(key.left, place), key_of(key.right, place)
    return _OPERATORS[key.operator](left, right)


_OPERATORS: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: Fraction(left // right),
}


@dataclass(frozen=True, slots=True)
class Linear:
    """constant + q * query key + k * token key."""

    constant: Fraction
    q: Fraction = Fraction(0)
    k: Fraction = Fraction(0)

    def plus(self, other: Linear, sign: int = 1) -> Linear:
        return Linear(
            self.constant + sign * other.constant, self.q + sign * other.q, self.k + sign * other.k
        )

    def times(self, other: Linear) -> Linear:
        if other.q or other.k:
            if self.q or self.k:
                raise ValueError("a relation must be linear in q and k")
            return other.times(self)
        scale = other.constant
        return Linear(self.constant * scale, self.q * scale, self.k * scale)


def linear(side: Arithmetic) -> Linear:
    """One side of a relation; ValueError where it is not linear in q and k."""
    if isinstance(side, Number):
        return Linear(side.value)
    if isinstance(side, Reference):
        if side.dotted not in ("q", "k"):
            raise ValueError(f"{side.dotted} is neither q nor k")
        return Linear(Fraction(0), **{side.dotted: Fraction(1)})
    left, right = linear(side.left), linear(side.right)
    if side.operator == "*":
        return left.times(right)
    return left.plus(right, 1 if side.operator == "+" else -1)


_MIRRORED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "==": "=="}


def _seen_runs(relation: Relation, query: Fraction, keys: Sequence[Fraction]) -> Span:
    """Indices of the ascending key values that satisfy the relation for this query."""
    difference = linear(relation.left).plus(linear(relation.right), -1)
    rest = difference.constant + difference.q * query
    if difference.k == 0:
        return (0, len(keys)) if _HOLDS[relation.operator](rest) else (0, 0)
    bound = -rest / difference.k
    operator = relation.operator if difference.k > 0 else _MIRRORED[relation.operator]
    below, upto = bisect_left(keys, bound), bisect_right(keys, bound)
    return {
        "<": (0, below),
        "<=": (0, upto),
        "==": (below, upto),
        ">=": (below, len(keys)),
        ">": (upto, len(keys)),
    }[operator]


_HOLDS: Mapping[str, Callable[[Fraction], bool]] = {
    "<": lambda value: value < 0,
    "<=": lambda value: value <= 0,
    "==": lambda value: value == 0,
    ">=": lambda value: value >= 0,
    ">": lambda value: value > 0,
}


def _blocks(
    subject: GroupName, rules: Sequence[Rule], runs: Mapping[GroupName, _Runs]
) -> Iterator[tuple[Span, list[Span]]]:
    mine = [rule for rule in rules if subject in rule.subjects]
    for run in runs[subject].runs:
        keys = [
            span
            for rule in mine
            for seen in rule.objects
            for span in _seen(rule.relations, run.key, runs[seen])
        ]
        yield (run.start, run.end), keys


def _seen(relations: Sequence[Relation], query: Fraction, runs: _Runs) -> list[Span]:
    low, high = 0, len(runs.runs)
    for relation in relations:
        first, last = _seen_runs(relation, query, runs.keys)
        low, high = max(low, first), min(high, last)
    return runs.between(low, high)
