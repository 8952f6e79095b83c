"""What every part of the lowering reads: the plan, the module's names, the shared tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath

from wmdsl.check.model import Codec, Model, Segment, Stream, TokenGroup
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.names import RESERVED, Names, constant_name, segment_name
from wmdsl.lower.program import Assign, Block, Expression, Method, Name, expression, me, of
from wmdsl.plan.nodes import Placed, Plan, QueryPlan, Row, Space
from wmdsl.plan.roles import generates_by_segment
from wmdsl.plan.unet import seen_videos
from wmdsl.source import Span


@dataclass(slots=True)
class Context:
    """`attributes` names what the module holds; `schedules` and `methods` fill up on the way.

    `questions` are those that get a method.
    """

    plan: Plan
    questions: tuple[QueryPlan, ...] = ()
    attributes: Names = field(default_factory=lambda: Names(RESERVED))
    constants: Names = field(default_factory=lambda: Names(frozenset()))
    schedules: dict[tuple[int, int, tuple[Row, ...], bool], Assign] = field(default_factory=dict)
    methods: dict[object, Method] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        return self.plan.model

    def owned(self, form: str, name: str) -> Expression:
        """The submodule of a declaration: `self.eyes`."""
        return of(me, self.attributes.of((form, name), name, form))

    def inward(self, group: TokenGroup) -> Expression:
        """The module that makes a trunk's tokens of a group's features."""
        return of(self.owned("trunk", group.trunk), f"{group_name(self.model, group)}_in")

    def outward(self, group: TokenGroup) -> Expression:
        """The head that reads a group's tokens."""
        return of(self.owned("trunk", group.trunk), f"{group_name(self.model, group)}_out")

    def stream(self, segment: Segment) -> Stream:
        return self.model.streams[segment.stream]

    def codec(self, group: TokenGroup) -> Codec | None:
        """The codec of a group; None for learned tokens and for the token of a prefix."""
        return self.model.codecs[group.codec] if group.codec else None

    def _videos(self, space: Space) -> Expression:
        """The videos of a U-Net: their shapes, and which of them each one sees."""
        shapes = [(placed.group.frames, *grid_of(placed.group)) for placed in space.groups]
        sees = []
        for query in space.groups:
            keys = seen_videos(space, query)
            for key in keys:
                if not _whole(space, query, key):
                    message = f"a U-Net cannot let parts of {query.group.name} see {key.group.name}"
                    raise Unsupported(message, _attend_span(self.model, space))
                if key.group.grid != query.group.grid:
                    message = f"{query.group.name} and {key.group.name} differ in size in a U-Net"
                    raise Unsupported(message, key.group.span)
            sees.append(tuple(space.groups.index(key) for key in keys))
        return Block("Videos")(tuple(shapes), tuple(sees))

    def schedule(self, space: Space, passes: str) -> Expression | None:
        """The constant that holds a space's mask in some pass; None where all see all."""
        if self.model.trunks[space.trunks[0]].kind == "unet":
            return self._videos(space)
        averages = self.model.trunks[space.trunks[0]].kind == "mlp"
        if space.dense and not averages:
            return None
        wanted = constant_name(*passes.split("."), space.name)
        return self.mask(wanted, space, space.tokens, space.ranges, averages)

    def mask(
        self,
        wanted: str,
        queries: Space,
        keys: int,
        ranges: tuple[Row, ...],
        averages: bool = False,
    ) -> Expression:
        """The constant that holds who of a space's tokens sees which of so many keys."""
        key = (queries.tokens, keys, ranges, averages)
        if key not in self.schedules:
            rows = [tuple(row) for row in ranges]
            if averages:
                value = Block("Shares")(queries.tokens, rows)
            else:
                value = Name("Schedule").from_ranges(queries.tokens, keys, rows)
            name = Name(self.constants.of(key, wanted))
            self.schedules[key] = Assign((name,), value, _attend_span(self.model, queries))
        return self.schedules[key].targets[0]


def grid_of(group: TokenGroup) -> tuple[int, int]:
    """Rows and columns of a U-Net's tokens."""
    if group.grid is None:
        raise Unsupported(f"{group.name} has no rows and columns for a U-Net", group.span)
    return group.grid


def _whole(space: Space, query: Placed, key: Placed) -> bool:
    """Whether all tokens of a group see all those of another."""
    wanted = query.group.count * key.group.count
    return wanted == sum(
        max(0, min(row[1], query.end) - max(row[0], query.start))
        * max(0, min(row[3], key.end) - max(row[2], key.start))
        for row in space.ranges
    )


def group_name(model: Model, group: TokenGroup) -> str:
    return segment_name(model, group.segment) if group.codec or group.features == 0 else group.name


def _attend_span(model: Model, space: Space) -> Span:
    owner = model.attends.get(space.name) or model.joins.get(space.name)
    return (owner or model.trunks[space.trunks[0]]).span


def place(span: Span) -> str:
    """`mot.wm:12`"""
    return f"{PurePath(span.source.name).name}:{span.line}"


def generated(model: Model, group: TokenGroup) -> bool:
    """Whether a group's own tokens predict its segment."""
    generate = generates_by_segment(model).get(group.segment.reference) if group.segment else None
    return generate is not None and (group.trunk, group.name) in generate.groups


def number(value: object) -> Expression:
    """A rational of the spec as the shortest Python number."""
    return expression(int(value) if value == int(value) else float(value))
