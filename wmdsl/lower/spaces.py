"""One method per attention space and live trunks: the loop over their blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from wmdsl.check.model import Cross, Model, Trunk
from wmdsl.lower.context import Context
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import EACH
from wmdsl.lower.names import LOCALS, Names
from wmdsl.lower.program import (
    Block,
    Body,
    Expression,
    Method,
    Name,
    Parameter,
    expression,
    joined,
    me,
    of,
)
from wmdsl.plan.nodes import Space
from wmdsl.plan.spaces import sources_of

ATTENTION = Name("attention")
MAPS, SKIPS = Name("maps"), Name("skips")
TIMED = ("dit", "unet")
# By kind, what says who sees whom: a name and its annotation.
SEEN = {"mlp": ("seen", "Shares"), "unet": ("videos", "Videos")}
MASK = ("schedule", "Schedule | None")


@dataclass(frozen=True, slots=True)
class Route:
    """What distinguishes one method over a space: who is live, how deep, what it puts out.

    `results` are (trunk, layer): layer None is the hidden state behind the final norm, EACH the
    list of those behind every block.
    """

    space: str
    trunks: tuple[str, ...]
    layers: int
    results: tuple[tuple[str, int | None], ...]
    masked: bool


def route(context: Context, space: Space) -> Route:
    """The route through a space in some pass; `masked` if any pass over the same trunks is."""
    model = context.model
    results = []
    for name in space.trunks:
        layers = _layers_read(model, name, space.time)
        complete = space.layers == model.trunks[name].layers
        if complete and (space.time is None or None in layers):
            results.append((name, None))
        results += [
            (name, layer) for layer in layers if layer is not None and layer <= space.layers
        ]
    masked = context.model.trunks[space.trunks[0]].kind in SEEN or any(
        not other.dense
        for other in all_spaces(context)
        if (other.name, other.trunks, other.layers) == (space.name, space.trunks, space.layers)
    )
    return Route(space.name, space.trunks, space.layers, tuple(results), masked)


def _layers_read(model: Model, trunk: str, time: Fraction | None) -> list[int | None]:
    """Depths at which couplings read a trunk's hidden states at that time."""
    read = [(source, EACH if cross.paired else source.layer)
            for cross in model.crosses.values() for source in cross.sources]  # fmt: skip
    others = (*model.conditions.values(), *model.aligns.values())
    read += [(source, source.layer) for other in others for source in sources_of(other)]
    found = {layer for source, layer in read if (source.trunk, source.time) == (trunk, time)}
    return sorted(found, key=lambda layer: EACH - 1 if layer is None else layer)


def all_spaces(context: Context) -> Iterator[Space]:
    """The spaces of all passes that are emitted."""
    for training in context.plan.trainings:
        yield from training.evaluation.spaces
    for question in context.questions:
        for generation in question.chain:
            yield from generation.evaluation.spaces


def crosses_of(model: Model, trunks: tuple[str, ...]) -> list[Cross]:
    """The crosses that any of the trunks reads."""
    return [cross for cross in model.crosses.values() if set(trunks) & set(cross.targets)]


def cross_module(context: Context, cross: Cross, trunk: str) -> Expression:
    """The readers of one trunk: `self.read`, or `self.read_seer` beside others."""
    wanted = cross.name if len(cross.targets) == 1 else f"{cross.name}_{trunk}"
    return of(me, context.attributes.of(("cross", cross.name, trunk), wanted, "cross"))


@dataclass(frozen=True, slots=True)
class Reading:
    """What a run method takes for a cross: one sequence for all its targets, or the source as it
    is embedded for one of them."""

    cross: Cross
    trunk: str | None

    @property
    def name(self) -> str:
        own = self.trunk is not None and len(self.cross.targets) > 1
        return f"{self.cross.name}_{self.trunk}" if own else self.cross.name


def readings(model: Model, trunks: tuple[str, ...]) -> Iterator[Reading]:
    """What the crosses into these trunks read."""
    for cross in crosses_of(model, trunks):
        readers = [trunk for trunk in trunks if trunk in cross.targets]
        yield from (Reading(cross, trunk) for trunk in (readers if cross.embedded else [None]))


def embedding(context: Context, reading: Reading) -> Expression:
    """What embeds each source for its reader: `self.read_embed`, or one beside others."""
    wanted = f"{reading.name}_embed"
    return of(me, context.attributes.of(("embed", reading.cross.name, reading.trunk), wanted))


def rotary(trunk: Trunk) -> bool:
    return trunk.positions.startswith("rope")


def shares_modulation(trunk: Trunk) -> bool:
    """Whether one matrix of the trunk makes the numbers of all its blocks."""
    return trunk.kind == "dit" and trunk.attributes["modulation"] == "shared"


def runs_method(context: Context, space: Space) -> tuple[Route, Expression]:
    """The method that runs a space's blocks, written at its first use."""
    path = route(context, space)
    if path not in context.methods:
        context.methods[path] = Loop(context, path).method()
    return path, of(me, context.methods[path].name)


class Loop:
    """The statements over the blocks of the trunks of one route."""

    verb = "run"

    def __init__(self, context: Context, path: Route):
        self.context = context
        self.path = path
        self.trunks = [context.model.trunks[name] for name in path.trunks]
        self.names = Names(LOCALS | {"schedule", "memory", "seen", "videos", "maps", "skips"})
        seen, self.seen_as = SEEN.get(self.trunks[0].kind, MASK)
        self.seen = Name(seen)
        self.body = Body()

    def method(self) -> Method:
        """The whole method."""
        self._begin()
        with self._over_blocks():
            self._block()
        results = self._results()
        self.body.give_back(results[0] if len(results) == 1 else results)
        return Method(
            name=self._method_name(),
            parameters=tuple(self._parameters()),
            returns=self._returns(),
            doc=self._doc(),
            body=self.body.statements,
            span=self._owner_span(),
        )

    def _begin(self) -> None:
        """What stands ahead of the loop over the blocks."""
        for trunk, layer in self.path.results:
            if layer == 0:
                self.body.assign(self._result(trunk, 0), self._x(trunk))
            if layer == EACH:
                self.body.assign(self._result(trunk, EACH), [])
        for trunk in filter(self._shares, self.trunks):
            shared = of(self.context.owned("trunk", trunk.name), "shared")
            self.body.assign(self._local(trunk, "shared"), shared(self._code(trunk)))
        if self.trunks[0].kind == "unet":
            self.body.assign(MAPS, Block("to_maps")(self._x(self.trunks[0].name), self.seen))
            self.body.assign(SKIPS, [])

    def _shares(self, trunk: Trunk) -> bool:
        return shares_modulation(trunk)

    def _results(self) -> tuple[Expression, ...]:
        return tuple(self._returned(trunk, layer) for trunk, layer in self.path.results)

    def _returns(self) -> str:
        each = [layer == EACH for _, layer in self.path.results]
        if any(each):
            parts = ["list[Tensor]" if many else "Tensor" for many in each]
            return parts[0] if len(parts) == 1 else f"tuple[{', '.join(parts)}]"
        return "Tensor" if len(each) == 1 else "tuple[Tensor, ...]"

    def _method_name(self) -> str:
        parts = [self.verb, self.path.space]
        model = self.context.model
        join = model.joins.get(self.path.space)
        if join and join.trunks != self.path.trunks:
            parts += self.path.trunks
        if self.path.layers < self.trunks[0].layers:
            parts += ["to", str(self.path.layers)]
        return self.context.attributes.of(("run", self.path), "_".join(parts))

    def _owner_span(self):
        join = self.context.model.joins.get(self.path.space)
        return join.span if join else self.trunks[0].span

    def _doc(self) -> str:
        together = ", attending as one sequence" if len(self.trunks) > 1 else ""
        return f"The blocks of {self._named()}{together}."

    def _named(self) -> str:
        *names, last = [trunk.name for trunk in self.trunks]
        return f"{', '.join(names)} and {last}" if names else last

    def _parameters(self) -> Iterator[Parameter]:
        yield Parameter("self", "")
        for trunk in self.trunks:
            yield Parameter(self._x(trunk.name).text, "Tensor")
        for trunk in self.trunks:
            if trunk.kind in TIMED:
                yield self._told(trunk)
        for trunk in self.trunks:
            if rotary(trunk):
                yield Parameter(self._angles(trunk).text, "Tensor")
        for reading in readings(self.context.model, self.path.trunks):
            kind = "list[Tensor]" if reading.cross.paired else "Tensor"
            yield Parameter(self._source(reading).text, kind)
        if self.path.masked:
            yield Parameter(self.seen.text, self.seen_as)

    def _told(self, trunk: Trunk) -> Parameter:
        return Parameter(self._code(trunk).text, "Tensor" if trunk.kind == "unet" else "Runs")

    def _x(self, trunk: str) -> Name:
        return Name(self.names.of(("x", trunk), trunk, "tokens"))

    def _code(self, trunk: Trunk) -> Name:
        return Name(self.names.of(("code", trunk.name), self._own(trunk, "code")))

    def _angles(self, trunk: Trunk) -> Name:
        return Name(self.names.of(("angles", trunk.name), self._own(trunk, "angles")))

    def _source(self, reading: Reading) -> Name:
        key = "source", reading.cross.name, reading.trunk
        return Name(self.names.of(key, reading.name, "source"))

    def _result(self, trunk: str, layer: int) -> Name:
        wanted = f"{trunk}_states" if layer == EACH else f"{trunk}_after_{layer}"
        return Name(self.names.of(("result", trunk, layer), wanted))

    def _own(self, trunk: Trunk, what: str) -> str:
        """A name of one trunk's own: prefixed where there are several."""
        return what if len(self.trunks) == 1 else f"{trunk.name}_{what}"

    def _local(self, trunk: Trunk, what: str) -> Name:
        return Name(self.names.of((what, trunk.name), self._own(trunk, what)))

    def _over_blocks(self):
        """`for block in self.seer.blocks`, with the depth where something depends on it."""
        names, stacks = zip(*self._stacks(), strict=True)
        together = stacks[0] if len(stacks) == 1 else Name("zip")(*stacks, strict=True)
        if not self._needs_depth():
            return self.body.loop(names, together)
        one = names[0] if len(names) == 1 else names
        return self.body.loop((Name("depth"), expression(one)), Name("enumerate")(together))

    def _stacks(self) -> Iterator[tuple[Expression, Expression]]:
        """What the loop goes through: (variable, sequence)."""
        for trunk in self.trunks:
            yield self._local(trunk, "block"), self._stack(trunk)

    def _stack(self, trunk: Trunk) -> Expression:
        blocks = of(self.context.owned("trunk", trunk.name), "blocks")
        return blocks if self.path.layers == trunk.layers else blocks[: self.path.layers]

    def _needs_depth(self) -> bool:
        tapped = any(layer and layer != EACH for _, layer in self.path.results)
        return tapped or bool(crosses_of(self.context.model, self.path.trunks))

    def _block(self) -> None:
        kind = self.trunks[0].kind
        if kind == "mlp":
            self._layer(self.trunks[0])
        elif kind == "unet":
            self._maps(self.trunks[0])
        else:
            self._transformer()
        for trunk, layer in self.path.results:
            if layer == EACH:
                self.body.do(of(self._result(trunk, EACH), "append")(self._now(trunk)))
            elif layer:
                with self.body.branch(Name("depth").is_(layer - 1)):
                    self.body.assign(self._result(trunk, layer), self._now(trunk))

    def _now(self, trunk: str) -> Expression:
        """The tokens of a trunk as they stand in the loop."""
        unet = self.context.model.trunks[trunk].kind == "unet"
        return Block("to_tokens")(MAPS, self.seen) if unet else self._x(trunk)

    def _layer(self, trunk: Trunk) -> None:
        x, block = self._x(trunk.name), self._local(trunk, "block")
        self.body.assign(x, block(x, self.seen))

    def _maps(self, trunk: Trunk) -> None:
        """A block of a U-Net; the tokens stand for what it puts out where they are read."""
        block = self._local(trunk, "block")
        self.body.assign(MAPS, block(of(block, "enter")(MAPS, SKIPS), self._code(trunk), self.seen))
        self._cross(trunk)
        self.body.do(of(block, "leave")(MAPS, SKIPS))

    def _transformer(self) -> None:
        for trunk in self.trunks:
            if trunk.kind == "dit":
                self._modulate(trunk)
        for trunk in self.trunks:
            self._project(trunk)
        self._attend()
        self._advance()

    def _modulate(self, trunk: Trunk) -> None:
        told = "shared" if shares_modulation(trunk) else "code"
        block, code = self._local(trunk, "block"), self._local(trunk, told)
        self.body.assign(self._local(trunk, "modulation"), of(block, "modulation")(code))

    def _advance(self) -> None:
        """What comes behind attention."""
        for trunk in self.trunks:
            self._step(trunk, "merge", self._local(trunk, "mixed"))
        for trunk in self.trunks:
            self._cross(trunk)
        for trunk in self.trunks:
            self._step(trunk, "feed")

    def _heads(self, trunk: Trunk) -> tuple[Name, Name, Name]:
        return tuple(self._local(trunk, part) for part in ("query", "key", "value"))

    def _modulation(self, trunk: Trunk) -> tuple[Name, ...]:
        return (self._local(trunk, "modulation"),) if trunk.kind == "dit" else ()

    def _project(self, trunk: Trunk) -> None:
        heads, x = self._heads(trunk), self._x(trunk.name)
        project = of(self._local(trunk, "block"), "project")
        self.body.assign(heads, project(x, *self._modulation(trunk)))
        if rotary(trunk):
            for name in heads[:2]:
                self.body.assign(name, Block("rotated")(name, self._angles(trunk)))

    def _attend(self) -> None:
        parts = zip(*(self._heads(trunk) for trunk in self.trunks), strict=True)
        query, key, value = (list(part) for part in parts)
        schedule = (self.seen,) if self.path.masked else ()
        mixed = ATTENTION(joined(query), *self._seen(key, value), *schedule)
        if len(self.trunks) == 1:
            self.body.assign(self._local(self.trunks[0], "mixed"), mixed)
            return
        lengths = [of(self._x(trunk.name), "shape")[1] for trunk in self.trunks]
        outputs = tuple(self._local(trunk, "mixed") for trunk in self.trunks)
        together = Name(self.names.of("mixed", "mixed"))
        self.body.assign(together, mixed)
        self.body.assign(outputs, of(together, "split")(lengths, dim=1))

    def _seen(
        self, key: list[Expression], value: list[Expression]
    ) -> tuple[Expression, Expression]:
        """Keys and values of the tokens that are seen."""
        return joined(key), joined(value)

    def _step(self, trunk: Trunk, part: str, *arguments: Expression) -> None:
        x, step = self._x(trunk.name), of(self._local(trunk, "block"), part)
        self.body.assign(x, step(x, *arguments, *self._modulation(trunk)))

    def _cross(self, trunk: Trunk) -> None:
        for cross in crosses_of(self.context.model, (trunk.name,)):
            readers = cross_module(self.context, cross, trunk.name)
            x = MAPS if trunk.kind == "unet" else self._x(trunk.name)
            source = self._source(Reading(cross, trunk.name if cross.embedded else None))
            source = source[Name("depth")] if cross.paired else source
            if len(cross.layers) == trunk.layers:
                read = _reads(trunk, cross, readers[Name("depth")], x, source)
                self.body.assign(x, read, cross.span)
                continue
            key = Name("str")(Name("depth"))
            with self.body.branch(key.in_(readers)):
                self.body.assign(x, _reads(trunk, cross, readers[key], x, source), cross.span)

    def _returned(self, trunk: str, layer: int | None) -> Expression:
        if layer is not None:
            return self._result(trunk, layer)
        found = self.context.model.trunks[trunk]
        if found.kind == "mlp":
            return self._x(trunk)
        return self._normed(found, of(self.context.owned("trunk", trunk), "norm"))

    def _normed(self, trunk: Trunk, norm: Expression) -> Expression:
        code = (self._code(trunk),) if trunk.kind == "dit" else ()
        return norm(self._now(trunk.name), *code)


def _reads(
    trunk: Trunk, cross: Cross, reader: Expression, x: Expression, source: Expression
) -> Expression:
    """The tokens, or the maps, behind a cross."""
    if trunk.kind == "unet":
        if cross.per_frame:
            raise Unsupported("a U-Net reads no source frame by frame", cross.span)
        return Block("over_maps")(reader, x, source)
    return Block("by_frame")(reader, x, source) if cross.per_frame else reader(x, source)
