"""Attention spaces: which tokens stand in one sequence, and who sees whom there."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from wmdsl.check.model import (
    Align,
    Attend,
    Condition,
    Cross,
    Model,
    Rule,
    TokenGroup,
    TokenSource,
    Trunk,
)
from wmdsl.plan import masks
from wmdsl.plan.framed import with_frames_prefixes
from wmdsl.plan.nodes import Placed, Space
from wmdsl.plan.ranges import Row, Rows
from wmdsl.record import record
from wmdsl.source import Span

GroupName = tuple[str, str]
PREFIXES = ("prefix", "prefix_tokens", "prefix_per_frame")
FRAMED = "prefix_per_frame"


def space_names(model: Model) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every space with its trunks: joins, and trunks that are in none, in order of the spec."""
    joined = {trunk: join for join in model.joins.values() for trunk in join.trunks}
    named = set()
    for trunk in model.trunks:
        join = joined.get(trunk)
        name = join.name if join else trunk
        if name not in named:
            named.add(name)
            yield name, join.trunks if join else (trunk,)


def training_spaces(model: Model) -> tuple[Space, ...]:
    """All spaces with all their groups, and one more of each for every time a tap fixes.

    A space stands behind those whose tokens or predictions it reads.
    """
    plain = {name: _training_space(model, name, trunks) for name, trunks in space_names(model)}
    own_passes = {
        (space_of(plain.values(), source.trunk).name, source.time): None
        for source in token_sources(model)
        if source.trunk is not None and source.time is not None
    }
    held = (replace(plain[name], time=time) for name, time in own_passes)
    return _in_order(model, (*plain.values(), *held))


def _in_order(model: Model, spaces: tuple[Space, ...]) -> tuple[Space, ...]:
    """Spaces by dependence; those that depend on each other keep the order of the spec."""
    ordered: list[Space] = []

    def visit(space: Space, trail: tuple[Space, ...]) -> None:
        if space in ordered or space in trail:
            return
        for before in _read_spaces(model, spaces, space):
            visit(before, (*trail, space))
        ordered.append(space)

    for space in spaces:
        visit(space, ())
    return tuple(ordered)


def _read_spaces(model: Model, spaces: tuple[Space, ...], space: Space) -> Iterator[Space]:
    """The spaces that the trunks of `space` read through couplings and hands."""
    readers = [
        *((cross.sources, cross.targets) for cross in model.crosses.values()),
        *((entry.sources, (entry.trunk,)) for entry in model.conditions.values()),
    ]
    for sources, targets in readers:
        if set(targets) & set(space.trunks):
            for source in sources:
                if source.trunk is not None:
                    yield space_of(spaces, source.trunk, source.time)
    for hand in model.hands.values():
        if hand.trunk in space.trunks:
            for generate in model.generates.values():
                if hand.segment in generate.segments:
                    yield from (space_of(spaces, trunk) for trunk, _ in generate.groups)


def space_of(spaces: Iterable[Space], trunk: str, time: Fraction | None = None) -> Space:
    """The space in which a trunk attends at that time; KeyError if it is in none."""
    for space in spaces:
        if trunk in space.trunks and space.time == time:
            return space
    raise KeyError(trunk)


def token_sources(model: Model) -> Iterator:
    """Everything that a cross, a condition or an align reads."""
    for table in (model.crosses, model.conditions, model.aligns):
        for coupling in table.values():
            yield from sources_of(coupling)


def sources_of(coupling: Cross | Condition | Align) -> tuple[TokenSource, ...]:
    """What one coupling reads."""
    return (coupling.source,) if isinstance(coupling, Align) else coupling.sources


def draws(model: Model, space: Space) -> int:
    """How many noises of each sample a training pass through a space carries."""
    counts = [
        generate.attributes.get("draws") or 1
        for generate in model.generates.values()
        for trunk, _ in generate.groups
        if trunk in space.trunks and space.time is None
    ]
    return max(counts, default=1)


def kept(space: Space, keep: Callable[[Placed], bool], layers: int) -> Space:
    """The space with only some of its groups: their tokens move together, their rows stay true."""
    groups, place = [], 0
    for placed in filter(keep, space.groups):
        groups.append(replace(placed, start=place))
        place += placed.group.count
    tokens = tuple((old.start, old.end) for old in space.groups if keep(old))
    trunks = tuple(t for t in space.trunks if any(placed.group.trunk == t for placed in groups))
    return replace(
        space,
        trunks=trunks,
        groups=tuple(groups),
        tokens=place,
        rows=space.rows.among(tokens) if place < space.tokens else space.rows,
        layers=layers,
    )


def _training_space(model: Model, name: str, trunks: tuple[str, ...]) -> Space:
    placed, place = [], 0
    for group in (group for trunk in trunks for group in _sequence(model, model.trunks[trunk])):
        placed.append(Placed(group, place))
        place += group.count
    sight = _Sight.of(model, name, trunks, placed)
    layers = model.trunks[trunks[0]].layers
    return Space(name, trunks, tuple(placed), place, Rows(sight.rows), layers)


def visible_groups(model: Model, space: Space) -> tuple[tuple[Placed, Placed], ...]:
    """(query, key) of different groups of a training space where some token of the query sees one
    of the key."""
    return tuple(_Sight.of(model, space.name, space.trunks, space.groups).groups(space))


@record
class _Sight:
    """Who sees whom in a training space: its attend, or all (`causal`: those up to oneself), and
    beside them the prefixes of frames, each with the groups that hold its frames."""

    model: Model
    plain: Sequence[Placed]
    attend: Attend | None
    causal: bool
    framed: Sequence[tuple[Placed, Sequence[Placed]]]

    @classmethod
    def of(cls, model: Model, name: str, trunks: Sequence[str], placed: Sequence[Placed]) -> _Sight:
        attend = model.attends.get(name)
        if attend is not None:
            attend = replace(attend, rules=(*attend.rules, *_prefix_rules(model, trunks)))
        causal = len(trunks) == 1 and model.trunks[trunks[0]].kind == "decoder"
        framed = list(_framed(model, placed)) if attend is not None or causal else []
        leading = [prefix for prefix, _ in framed]
        plain = [entry for entry in placed if entry not in leading]
        return cls(model, plain, attend, causal, framed)

    def rows(self) -> tuple[Row, ...]:
        rows = masks.attention_rows(self.model, self.plain, self.attend, self.causal)
        return with_frames_prefixes(rows, self.framed) if self.framed else rows

    def groups(self, space: Space) -> Iterable[tuple[Placed, Placed]]:
        if self.framed:
            return _touching(space)
        return masks.visible_groups(self.model, self.plain, self.attend, self.causal)


def _touching(space: Space) -> list[tuple[Placed, Placed]]:
    """The same, read off the rows."""
    starts = [group.start for group in space.groups]

    def touched(start: int, end: int) -> range:
        return range(bisect_right(starts, start) - 1, bisect_left(starts, end))

    regions = {
        (touched(query_start, query_end), touched(key_start, key_end))
        for query_start, query_end, key_start, key_end in space.ranges
    }
    found = {
        (query, key)
        for queries, keys in regions
        for query in queries
        for key in keys
        if query != key
    }
    return [(space.groups[query], space.groups[key]) for query, key in sorted(found)]


def _framed(model: Model, placed: Sequence[Placed]) -> Iterator[tuple[Placed, list[Placed]]]:
    """The prefixes of frames, each with the groups that hold its frames."""
    for entry in placed:
        condition = model.conditions.get(entry.group.name)
        if condition is not None and entry.group.codec == "" and FRAMED in condition.mechanisms:
            groups = [other for other in placed if other.group.trunk == entry.group.trunk]
            names = _targets(model, condition)
            yield entry, [other for other in groups if other.group.name in names]


def _targets(model: Model, condition: Condition) -> tuple[str, ...]:
    """The groups that a condition is for."""
    groups = model.trunks[condition.trunk or ""].groups
    return condition.target_groups or tuple(group.name for group in groups)


def _sequence(model: Model, trunk: Trunk) -> Iterator[TokenGroup]:
    """The trunk's groups, behind the tokens of its prefix conditions."""
    for condition in prefixes(model, trunk.name):
        yield prefix_group(model, condition)
    yield from trunk.groups


def prefixes(model: Model, trunk: str) -> list[Condition]:
    return [
        condition
        for condition in model.conditions.values()
        if condition.trunk == trunk and set(PREFIXES) & set(condition.mechanisms)
    ]


def channels_into(model: Model, group: TokenGroup) -> list[Condition]:
    """Conditions whose source stands beside the features of a group."""
    return [
        condition
        for condition in model.conditions.values()
        if condition.trunk == group.trunk
        and "channel" in condition.mechanisms
        and group.name in (condition.target_groups or (group.name,))
        and group.name != condition.name
    ]


def _frames(model: Model, condition: Condition) -> int:
    """How many frames the groups of a condition have."""
    groups = model.trunks[condition.trunk or ""].groups
    return sum(group.frames for group in groups if group.name in _targets(model, condition))


def prefix_group(model: Model, condition: Condition) -> TokenGroup:
    """The tokens that a prefix condition puts in front of its trunk's tokens."""
    source = condition.sources[0]
    pooled = "prefix" in condition.mechanisms
    count = 1 if pooled else sum(source.count for source in condition.sources)
    frames = _frames(model, condition) if FRAMED in condition.mechanisms else 1
    return TokenGroup(
        name=condition.name,
        trunk=condition.trunk or "",
        segment=source.segment,
        codec="",
        frames=frames,
        per_frame=count // frames,
        grid=None,
        features=sum(source.width for source in condition.sources) if pooled else source.width,
        span=condition.span,
    )


def _prefix_rules(model: Model, trunks: Sequence[str]) -> Iterator[Rule]:
    """A prefix token sees itself and is seen by the groups that its condition names."""
    for condition in (found for trunk in trunks for found in prefixes(model, trunk)):
        if FRAMED in condition.mechanisms:
            continue
        trunk = model.trunks[condition.trunk]
        token = (trunk.name, condition.name)
        names = condition.target_groups or tuple(group.name for group in trunk.groups)
        readers = tuple((trunk.name, name) for name in names)
        yield Rule((token, *readers), (token,), (), condition.span)


def rule_span(model: Model, space: Space, query: GroupName, key: GroupName) -> Span:
    """The line that lets `query` see `key`: its attend row, else what puts both in one space."""
    attend = model.attends.get(space.name)
    rules = attend.rules if attend else ()
    for rule in rules:
        if query in rule.subjects and key in rule.objects:
            return rule.span
    if attend:
        return attend.span
    owner = model.joins.get(space.name) or model.trunks[space.name]
    return owner.span


def row_of(model: Model, space: Space, query: GroupName) -> Span:
    """The attend row whose subject is `query`, else what puts it into the space."""
    attend = model.attends.get(space.name)
    rules = attend.rules if attend else ()
    rule = next((rule for rule in rules if query in rule.subjects), None)
    return rule.span if rule else rule_span(model, space, query, query)
