"""What only the whole spec shows: nothing unread, nothing unused, no cycle, no leak from later."""

from __future__ import annotations

from collections.abc import Iterator

from wmdsl.check import errors
from wmdsl.check.codecs import TIME
from wmdsl.check.masks import spaces
from wmdsl.check.model import Align, Codec, Generate, Segment, TokenSource
from wmdsl.check.queries import generators
from wmdsl.check.scope import Draft
from wmdsl.check.training import handed
from wmdsl.source import Span

Edge = tuple[str, str, str, Span]  # from space, to space, what, where


def check_whole(draft: Draft) -> None:
    """Report what is wrong with the spec as a whole; call it only where all parts are sound."""
    if not draft.trunks and not draft.of("planner"):
        return  # a base for other models
    _check_read(draft)
    _check_used(draft)
    _check_called(draft)
    _check_outputs(draft)
    _check_cycles(draft)
    _check_lost(draft)
    _check_truths(draft)
    _check_scopes(draft)


def _check_read(draft: Draft) -> None:
    """Every stream, and every segment of it, is read by something."""
    for stream in draft.streams.values():
        unread = [part for part in stream.segments if part.reference not in draft.read]
        if unread and len(unread) == len(stream.segments):
            draft.report(errors.names.stream_unread(draft.spec.find(stream.name, "stream")))
            continue
        for segment in unread:
            draft.report(errors.names.segment_unread(segment))


def _check_used(draft: Draft) -> None:
    """Every codec declared here is used; one that a base declares in vain is left out."""
    for declaration in draft.spec.of("codec"):
        if declaration.name.text in draft.used:
            continue
        del draft.codecs[declaration.name.text]
        if _own(draft, declaration.span):
            draft.report(errors.names.codec_unused(declaration))
        else:
            draft.report(errors.names.codec_inherited(declaration, draft.spec.span))


def _check_called(draft: Draft) -> None:
    """Every extern is called by a codec, a hand-over, a predicate or an operator."""
    called = draft.used | draft.used_externs
    for codec in draft.codecs.values():
        if codec.kind == "external":
            called.add(codec.attributes["extern"].dotted)
    for declaration in draft.spec.of("extern"):
        if declaration.name.text not in called:
            draft.report(errors.names.extern_unused(declaration))


def _own(draft: Draft, span: Span) -> bool:
    """Whether the model itself says it, not one that it extends, which would stand above it."""
    model = draft.spec.span
    return span.source is model.source and span.start > model.start


def _check_outputs(draft: Draft) -> None:
    """Something reads, predicts from or attends to every trunk."""
    fruitful = {trunk for made in draft.generates.values() for trunk, _ in made.groups}
    fruitful |= {align.source.trunk for align in draft.aligns.values()}
    fruitful |= {source.trunk for source, _, _ in _sources(draft)}
    fruitful |= {trunk for join in draft.joins.values() for trunk in join.trunks}
    fruitful |= {layout.trunk for layout in draft.layouts.values()}
    for name in draft.trunks:
        if name not in fruitful:
            draft.report(errors.couplings.trunk_fruitless(draft.spec.find(name, "trunk")))


def _sources(draft: Draft) -> Iterator[tuple[TokenSource, tuple[str, ...], str]]:
    """Every source of a cross or condition, with the trunks that read it."""
    for cross in draft.crosses.values():
        for source in cross.sources:
            yield source, cross.targets, f"cross `{cross.name}`"
    for condition in draft.conditions.values():
        targets = (condition.trunk,) if condition.trunk else _users(draft, condition.codec)
        for source in condition.sources:
            yield source, targets, f"condition `{condition.name}`"


def _users(draft: Draft, codec: str) -> tuple[str, ...]:
    """Trunks with tokens of a codec."""
    return tuple(
        trunk.name
        for trunk in draft.trunks.values()
        if any(group.codec == codec for group in trunk.groups)
    )


def _edges(draft: Draft) -> Iterator[Edge]:
    """Which attention space must be evaluated before which."""
    home = {trunk: space for space, trunks in spaces(draft).items() for trunk in trunks}
    for source, targets, what in _sources(draft):
        if source.trunk:
            for target in targets:
                yield home[source.trunk], home[target], what, source.span
    makers = generators(draft)
    for hand in draft.hands.values():
        maker = makers.get(hand.segment.reference)
        if maker and maker.groups and hand.trunk in home:
            yield home[maker.groups[0][0]], home[hand.trunk], f"hand `{hand.name}`", hand.span


def _check_cycles(draft: Draft) -> None:
    """Spaces are evaluated one after another; the edge that closes a cycle is shown with it."""
    before: list[Edge] = []
    for edge in _edges(draft):
        path = _path(before, edge[1], edge[0])
        if path is None:
            before.append(edge)
            continue
        draft.report(errors.couplings.cycle(edge, path))


def _path(edges: list[Edge], start: str, goal: str) -> list[Edge] | None:
    """Edges that lead from one space to another; [] where they are the same."""
    ways: dict[str, list[Edge]] = {start: []}
    pending = [start]
    while pending:
        here = pending.pop()
        if here == goal:
            return ways[here]
        for edge in edges:
            if edge[0] == here and edge[1] not in ways:
                ways[edge[1]] = [*ways[here], edge]
                pending.append(edge[1])
    return None


def _check_lost(draft: Draft) -> None:
    """A future that stands in a trunk has a loss, or some query gives it."""
    if draft.of("layout"):
        return
    known = set(generators(draft))
    known |= {segment.reference for query in draft.queries.values() for segment in query.given}
    targets = {align.target.reference for align in draft.aligns.values()}
    seen: set[str] = set()
    for trunk in draft.trunks.values():
        for group in trunk.groups:
            teacher_forced = group.name.partition("[")[0] in targets
            lost = not group.segment.observed and group.name not in known and not teacher_forced
            if lost and group.name not in seen:
                seen.add(group.name)
                draft.report(errors.training.future_without_loss(group))


def _check_truths(draft: Draft) -> None:
    """Outside of its own trunk a generated segment is read by hand-over only."""
    makers = generators(draft)
    for source, _, what in _sources(draft):
        if source.codec == TIME or source.segment is None:
            continue
        if source.segment.reference in makers:
            draft.report(
                errors.couplings.truth_read(source, what, makers[source.segment.reference])
            )
    for name, maker in makers.items():
        own = set(maker.groups) | handed(draft)
        for trunk in draft.trunks.values():
            group = trunk.group(name)
            if group and (trunk.name, name) not in own:
                draft.report(errors.couplings.truth_stands(group, maker))


def _check_scopes(draft: Draft) -> None:
    """A codec that looks over the whole clip carries what is predicted into what predicts it."""
    for made in (*draft.aligns.values(), *draft.generates.values()):
        for later, codec, trunk in _predicted(draft, made):
            if codec is None or codec.scope != "clip":
                continue
            leak = _leak(draft, later, codec, trunk)
            if leak:
                draft.report(errors.codecs.clip_leaks(codec, leak, later, made))


def _predicted(draft: Draft, made: Align | Generate) -> Iterator[tuple[Segment, Codec | None, str]]:
    """(segment, codec, predicting trunk) of a loss."""
    if isinstance(made, Align):
        yield made.target, draft.codecs.get(made.target_codec), made.source.trunk
        return
    for trunk, name in made.groups:
        group = draft.trunks[trunk].group(name)
        yield group.segment, draft.codecs.get(group.codec), trunk


def _leak(draft: Draft, later: Segment, codec: Codec, trunk: str) -> Span | None:
    """Where a trunk at or before the predicting one reads the same clip through the codec."""
    for name in _upstream(draft, trunk):
        for group in draft.trunks[name].groups:
            same = group.codec == codec.name and group.segment.stream == later.stream
            if same and group.segment.reference != later.reference:
                return group.span
    return None


def _upstream(draft: Draft, trunk: str) -> set[str]:
    """The trunk, those it attends with, and all that it reads from."""
    rooms = spaces(draft)
    home = {name: space for space, trunks in rooms.items() for name in trunks}
    edges = list(_edges(draft))
    reached = {home[trunk]}
    while True:
        more = {edge[0] for edge in edges if edge[1] in reached} - reached
        if not more:
            return {name for space in reached for name in rooms[space]}
        reached |= more
