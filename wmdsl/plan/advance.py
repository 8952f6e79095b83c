"""How a roll-out goes on: which samples of one chunk's windows and answer make the next windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wmdsl.check.model import Model, Stream
from wmdsl.plan.named import questions
from wmdsl.plan.nodes import Plan, QueryPlan
from wmdsl.record import record

VISUAL = ("video", "image")


@record
class Advance:
    """A query asked chunk by chunk on its own predictions.

    `steps` counts the samples of `action` in one chunk.  `places` holds, for each stream that is
    both read and predicted, where its next known samples stand among the known and the predicted
    ones, and for an action with a past where that stands among the known and the given ones; `held`
    are the streams that are read and not predicted, whose last real samples stay.
    `frames` is the stream of predicted pictures, and `arrives` tells which of a stream's predicted
    samples falls on the end of the chunk.
    """

    query: str
    action: str
    steps: int
    places: Mapping[str, tuple[int, ...]]
    held: tuple[str, ...]
    frames: str | None
    arrives: Mapping[str, int]

    @property
    def predicted(self) -> tuple[str, ...]:
        """The streams that go on with what is foreseen of them."""
        return tuple(name for name in self.places if name != self.action)


class NoRollOut(Exception):
    """The query cannot be asked chunk by chunk; the text says why."""


def advance_of(model: Model, query: QueryPlan) -> Advance:
    """How `query` is rolled out.  Raises NoRollOut with the reason where it cannot be."""
    if query.answerable == "no":
        raise NoRollOut(query.because)
    action = _action(model, query)
    chunk = action.segment("future")
    given, sought = _by_stream(query.given), _by_stream(query.sought)
    observed = [name for name in given if name != action.name and _moves(model.streams[name])]
    predicted = {name: _places(model, name, action) for name in observed if name in sought}
    acted = {action.name: _places(model, action.name, action)} if _known(action) else {}
    return Advance(
        query=query.name,
        action=action.name,
        steps=len(chunk.offsets),
        places={**predicted, **acted},
        held=tuple(name for name in observed if name not in predicted),
        frames=next((n for n in sought if model.streams[n].modality in VISUAL), None),
        arrives=_arrivals(model, sought, action),
    )


def roll_out(plan: Plan, name: str | None = None) -> Advance:
    """How pictures are rolled out under given actions.  Raises NoRollOut with the reason."""
    advance = advance_of(plan.model, controllable(plan, name))
    if advance.frames is None or advance.frames not in advance.places:
        raise NoRollOut(f"{advance.query} predicts no picture that it reads again")
    return advance


def controllable(plan: Plan, name: str | None = None) -> QueryPlan:
    """The query to roll out: the one named, the first declared that foresees under actions, or
    the canonical one.  Raises NoRollOut for a name that nobody knows.
    """
    known = questions(plan)
    if name is not None and name not in known:
        raise NoRollOut(f"there is no query {name}; there are {', '.join(known)}")
    if name is not None:
        return known[name]
    for query in plan.queries.values():
        if query.answerable != "no" and _foresees(plan.model, query):
            return query
    return plan.canonical_queries["controllable_world_model"]


def _foresees(model: Model, query: QueryPlan) -> bool:
    futures = {part.partition(".")[0] for part in query.given if part.endswith(".future")}
    acts = any(model.streams[name].modality == "action" for name in futures)
    seen = [part for part in query.sought if part.endswith(".future")]
    return acts and any(model.streams[p.partition(".")[0]].modality in VISUAL for p in seen)


def _by_stream(references: tuple[str, ...]) -> dict[str, None]:
    return dict.fromkeys(reference.partition(".")[0] for reference in references)


def _moves(stream: Stream) -> bool:
    return stream.rate_hz is not None


def _action(model: Model, query: QueryPlan) -> Stream:
    for reference in query.given:
        stream = model.streams[reference.partition(".")[0]]
        if stream.modality == "action" and reference.endswith(".future"):
            return stream
    raise NoRollOut("it is not given the future of an action")


def _known(stream: Stream) -> tuple[int, ...]:
    return tuple(o for part in stream.segments if part.observed for o in part.offsets)


def _samples(stream: Stream, action: Stream) -> int:
    """How many samples of a stream pass during a chunk."""
    length = len(action.segment("future").offsets) * stream.rate_hz / action.rate_hz
    if length.denominator != 1:
        raise NoRollOut(f"a chunk of {action.name} lasts {length} samples of {stream.name}")
    return int(length)


def _places(model: Model, name: str, action: Stream) -> tuple[int, ...]:
    stream = model.streams[name]
    shift = _samples(stream, action)
    offsets = [*_known(stream), *stream.segment("future").offsets]
    wanted = [offset + shift for offset in _known(stream)]
    for offset in wanted:
        if offset not in offsets:
            raise NoRollOut(
                f"after one chunk {name} must be known at {offset}, and it is predicted at "
                f"{', '.join(map(str, stream.segment('future').offsets))}"
            )
    return tuple(offsets.index(offset) for offset in wanted)


def _arrivals(model: Model, sought: Iterable[str], action: Stream) -> dict[str, int]:
    """Places of the end of the chunk among predicted samples, where one falls on it."""
    found = {}
    for name in sought:
        future = model.streams[name].segment("future")
        if future is not None and _moves(model.streams[name]):
            end = _samples(model.streams[name], action)
            found |= {name: future.offsets.index(end)} if end in future.offsets else {}
    return found
