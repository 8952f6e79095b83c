"""Questions to the density: the declared ones and the four canonical ones, in one form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from wmdsl.check.model import Model, Query, Segment
from wmdsl.record import field, record
from wmdsl.source import Span

VISUAL_LEVELS = ("pixel", "latent", "3d")
DEFAULT_STEPS = 10


@record
class Asked:
    """`stages` are sought one after the other.  `missing` says what the model lacks for the
    question to make sense; "" where it lacks nothing."""

    name: str
    stages: tuple[tuple[Segment, ...], ...]
    given: tuple[Segment, ...]
    pinned: tuple[Segment, ...]
    steps: Mapping[str, int]
    sampler: str | None
    declared: bool
    span: Span
    missing: str = ""
    terminal: Mapping[str, Fraction] = field(default_factory=dict)

    @property
    def sought(self) -> tuple[Segment, ...]:
        return tuple(segment for stage in self.stages for segment in stage)


def declared(query: Query) -> Asked:
    return Asked(
        query.name, query.sought, query.given, query.pinned, query.steps, query.sampler,
        declared=True, span=query.span, terminal=query.terminal,
    )  # fmt: skip


def canonical(model: Model) -> Iterator[Asked]:
    """Policy, passive and controllable world model, inverse dynamics, over what is observed."""
    observed, action, future = tuple(observations(model)), actions(model), visual_futures(model)
    no_action = "" if action else "the model has no action"
    no_future = "" if future else "nothing visual is predicted"
    for name, sought, more, missing in (
        ("policy", action, (), no_action),
        ("passive_world_model", future, (), no_future),
        ("controllable_world_model", future, action, no_future or no_action),
        ("inverse_dynamics", action, future, no_action or no_future),
    ):
        steps, sampler, terminal = _usual_sampling(model, sought, more)
        yield Asked(
            name, (sought,), (*observed, *more), (), steps, sampler,
            declared=False, span=model.span, missing=missing, terminal=terminal,
        )  # fmt: skip


def observations(model: Model) -> Iterator[Segment]:
    """Everything that is known before acting: pasts, nows, texts, still images."""
    for stream in model.streams.values():
        if stream.modality != "learned":
            yield from (segment for segment in stream.segments if segment.observed)


def actions(model: Model) -> tuple[Segment, ...]:
    return tuple(
        segment
        for stream in model.streams.values()
        if stream.modality == "action"
        for segment in stream.segments
        if not segment.observed
    )


def visual_futures(model: Model) -> tuple[Segment, ...]:
    """Futures of streams of a visual level that are generated, or predicted as features."""
    generated = {
        segment.reference for entry in model.generates.values() for segment in entry.segments
    }
    compared = {align.target.reference for align in model.aligns.values()}
    return tuple(
        segment
        for stream in model.streams.values()
        if stream.level in VISUAL_LEVELS and stream.modality != "learned"
        for segment in stream.segments
        if not segment.observed and segment.reference in generated | compared
    )


def is_policy(model: Model, asked: Asked) -> bool:
    """Whether a question seeks a generated action and is given nothing of the future."""
    generated = {segment for generate in model.generates.values() for segment in generate.segments}
    generated |= {segment for extern in model.externs.values() for segment in extern.gives}
    return any(segment in generated for segment in actions(model) if segment in asked.sought) and (
        all(segment.observed for segment in asked.given)
    )


def _usual_sampling(
    model: Model, sought: tuple[Segment, ...], futures: tuple[Segment, ...]
) -> tuple[Mapping[str, int], str | None, Mapping[str, Fraction]]:
    """Steps, sampler and terminal levels of the declared query that asks the same; else the first
    steps of each stream that any query declares."""
    for query in model.queries.values():
        given = tuple(segment for segment in query.given if not segment.observed)
        if query.all_sought == sought and given == futures and not query.pinned:
            return query.steps, query.sampler, query.terminal
    steps: dict[str, int] = {}
    for query in model.queries.values():
        for stream, count in query.steps.items():
            steps.setdefault(stream, count)
    return steps, None, {}
