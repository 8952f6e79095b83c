"""From `attend` rows to key ranges per block of query rows.

Every token has an order key: what `order GROUP by ...` says, else its place in the sequence.  A
relation of a row compares the keys q of the query and k of the key token; where it is linear in
both, the keys that one query sees are an interval.  Order keys may use `frame` and `step` (index of
the sample in its stream's window), `row` and `column` of a grid, and `token` (index in the group);
`/` rounds down.
"""

from __future__ import annotations

import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import groupby, pairwise, product

from wmdsl.check.model import Attend, Model, Rule, TokenGroup
from wmdsl.plan.nodes import Placed
from wmdsl.plan.ranges import Row, Span, canonical
from wmdsl.record import record
from wmdsl.syntax.ast import Arithmetic, Number, Order, Reference, Relation

GroupName = tuple[str, str]
Exact = int | Fraction
Place = Mapping[str, Exact]  # what an order key or a relation may name, with its value


def attention_rows(
    model: Model, placed: Sequence[Placed], attend: Attend | None, causal: bool
) -> tuple[Row, ...]:
    """The rows of one attention space.

    Without an attend every token sees all, or in a causal space those up to itself.  With one,
    exactly what its rows say.
    """
    if attend is None:
        return _default_rows(placed, causal)
    runs = _ordered_runs(model, placed, attend)
    blocks = (
        (block, keys) for entry in placed for block, keys in _blocks(entry.key, attend.rules, runs)
    )
    return canonical(blocks)


def visible_groups(
    model: Model, placed: Sequence[Placed], attend: Attend | None, causal: bool
) -> Iterator[tuple[Placed, Placed]]:
    """(query, key) of different groups where some query token sees some key token; the rows say
    the same, but are longer to make."""
    runs = _ordered_runs(model, placed, attend) if attend is not None else {}
    for query, key in product(placed, placed):
        if query is not key and (
            _is_seen(query.key, key.key, attend.rules, runs)
            if attend is not None
            else not causal or key.start < query.end
        ):
            yield query, key


def _is_seen(
    query: GroupName, key: GroupName, rules: Sequence[Rule], runs: Mapping[GroupName, _Runs]
) -> bool:
    return any(
        sight.tokens(run.key)
        for rule in rules
        if query in rule.subjects and key in rule.objects
        for sight in [_Sight.of(rule.relations, runs[key])]
        for run in runs[query].runs
    )


def _ordered_runs(
    model: Model, placed: Sequence[Placed], attend: Attend
) -> Mapping[GroupName, _Runs]:
    ordered = {
        name for rule in attend.rules if rule.relations for name in rule.subjects + rule.objects
    }
    return {
        entry.key: _runs(model, entry, attend.orders) if entry.key in ordered else _one_run(entry)
        for entry in placed
    }


def _default_rows(placed: Sequence[Placed], causal: bool) -> tuple[Row, ...]:
    first, end = placed[0].start, placed[-1].end
    if not causal:
        return ((0, end, 0, end),)
    return tuple((place, place + 1, first, place + 1) for place in range(first, end))


@record
class _Run:
    """Neighbouring tokens of a group with one order key."""

    key: Exact
    start: int
    end: int


@record
class _Runs:
    """The runs of a group in order of their keys; `ascending` if tokens stand in that order."""

    runs: tuple[_Run, ...]
    keys: tuple[Exact, ...]
    ascending: bool

    def tokens(self, chosen: Sequence[int]) -> list[Span]:
        """The tokens of the chosen runs (ascending indices)."""
        if chosen and self.ascending and chosen[-1] - chosen[0] == len(chosen) - 1:
            return [(self.runs[chosen[0]].start, self.runs[chosen[-1]].end)]
        return [(self.runs[at].start, self.runs[at].end) for at in chosen]


def _one_run(entry: Placed) -> _Runs:
    return _Runs((_Run(0, entry.start, entry.end),), (0,), ascending=True)


def _runs(model: Model, entry: Placed, orders: Iterable[Order]) -> _Runs:
    order = next((order for order in orders if _speaks_of(order, entry.group)), None)
    keys: Iterable[Exact] = range(entry.start, entry.end)
    if order is not None:
        keys = map(key_of(order.key), places(model, entry.group))
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


def places(model: Model, group: TokenGroup) -> Iterator[Place]:
    """What an order key may use, for each token of the group."""
    stream = model.streams[group.segment.stream]
    first = stream.start(group.segment.name)
    columns = group.grid[1] if group.grid else 1
    scales = _scales(model, group)
    for token in range(group.count):
        frame, inside = divmod(token, group.per_frame)
        sample = first + frame * group.segment.length // group.frames
        row, column = divmod(inside, columns)
        yield {
            "frame": sample,
            "step": sample,
            "row": row,
            "column": column,
            "scale": scales[inside],
            "token": token,
        }


def _scales(model: Model, group: TokenGroup) -> list[int]:
    """Which scale of a code pyramid a token of a frame stands for; 0 where there is no pyramid."""
    codec = model.codecs.get(group.codec)
    sides = codec.attributes.get("scales") if codec else None
    if not sides:
        return [0] * group.per_frame
    return [scale for scale, side in enumerate(sides) for _ in range(side * side)]


def key_of(key: Arithmetic) -> Callable[[Place], Exact]:
    """The value of an order key as a function of the token's place; KeyError for a name that no
    token has.  A mask asks for thousands, so the tree is walked once."""
    if isinstance(key, Number):
        value = _exact(key.value)
        return lambda place: value
    if isinstance(key, Reference):
        return operator.itemgetter(key.dotted)
    combine, left, right = _OPERATORS[key.operator], key_of(key.left), key_of(key.right)
    return lambda place: combine(left(place), right(place))


_OPERATORS: Mapping[str, Callable[[Exact, Exact], Exact]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}


def _exact(value: Exact) -> Exact:
    """The same number, as an int where it is whole: ints compare many times faster."""
    return value.numerator if value.denominator == 1 else value


@record
class _Sight:
    """What a rule lets a query see of one group."""

    runs: _Runs
    solved: tuple[Linear, ...]
    others: tuple[Callable[[Place], bool], ...]  # tried key by key

    @classmethod
    def of(cls, relations: Sequence[Relation], runs: _Runs) -> _Sight:
        sides = [(relation, linear(relation)) for relation in relations]
        solved = tuple(side for _, side in sides if side is not None)
        return cls(runs, solved, tuple(_test(relation) for relation, side in sides if side is None))

    def tokens(self, query: Exact) -> list[Span]:
        """The tokens that a query with this key sees: all relations hold."""
        keys = self.runs.keys
        first, behind = 0, len(keys)
        for side in self.solved:
            low, high = side.keys(query, keys)
            first, behind = max(first, low), min(behind, high)
        found: Sequence[int] = range(first, behind)
        for holds in self.others:
            found = [at for at in found if holds({"q": query, "k": keys[at]})]
        return self.runs.tokens(found)


def _blocks(
    subject: GroupName, rules: Sequence[Rule], runs: Mapping[GroupName, _Runs]
) -> Iterator[tuple[Span, list[Span]]]:
    sights = [
        _Sight.of(rule.relations, runs[seen])
        for rule in rules
        if subject in rule.subjects
        for seen in rule.objects
    ]
    for run in runs[subject].runs:
        yield (run.start, run.end), [span for sight in sights for span in sight.tokens(run.key)]


def _test(relation: Relation) -> Callable[[Place], bool]:
    left, right, holds = key_of(relation.left), key_of(relation.right), _HOLDS[relation.operator]
    return lambda place: holds(left(place) - right(place))


_HOLDS: Mapping[str, Callable[[Exact], bool]] = {
    "<": lambda value: value < 0,
    "<=": lambda value: value <= 0,
    "==": lambda value: value == 0,
    ">=": lambda value: value >= 0,
    ">": lambda value: value > 0,
}
_MIRRORED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "==": "=="}


@record
class Linear:
    """constant + q * query key + k * token key, compared with 0."""

    operator: str
    constant: Exact
    q: Exact
    k: Exact

    def keys(self, query: Exact, keys: Sequence[Exact]) -> Span:
        """First and behind the last of the ascending keys that hold for this query."""
        rest = self.constant + self.q * query
        if self.k == 0:
            return (0, len(keys)) if _HOLDS[self.operator](rest) else (0, 0)
        bound = -rest * self.k if abs(self.k) == 1 else _exact(Fraction(-rest, self.k))
        below, upto = bisect_left(keys, bound), bisect_right(keys, bound)
        return {
            "<": (0, below),
            "<=": (0, upto),
            "==": (below, upto),
            ">=": (below, len(keys)),
            ">": (upto, len(keys)),
        }[self.operator if self.k > 0 else _MIRRORED[self.operator]]


@cache
def linear(relation: Relation) -> Linear | None:
    """A relation in the form that is solved at once; None where it has another form."""
    left, right = _coefficients(relation.left), _coefficients(relation.right)
    if left is None or right is None:
        return None
    return Linear(relation.operator, *(one - other for one, other in zip(left, right, strict=True)))


Coefficients = tuple[Exact, Exact, Exact]  # constant, q, k


def _coefficients(side: Arithmetic) -> Coefficients | None:
    if isinstance(side, Number):
        return (_exact(side.value), 0, 0)
    if isinstance(side, Reference):
        return (0, 1, 0) if side.dotted == "q" else (0, 0, 1)
    left, right = _coefficients(side.left), _coefficients(side.right)
    if left is None or right is None or side.operator == "/":
        return None
    if side.operator == "*":
        return _product(left, right)
    sign = 1 if side.operator == "+" else -1
    return tuple(one + sign * other for one, other in zip(left, right, strict=True))


def _product(left: Coefficients, right: Coefficients) -> Coefficients | None:
    if any(right[1:]):
        left, right = right, left
    return None if any(right[1:]) else tuple(part * right[0] for part in left)
