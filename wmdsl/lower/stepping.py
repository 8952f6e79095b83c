"""The passes of a sampling loop: what stays is run ahead of it, what changes in every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wmdsl.check.codecs import TIME
from wmdsl.check.model import Trunk
from wmdsl.lower.cached import remember_method, step_method
from wmdsl.lower.passes import PassWriter
from wmdsl.lower.program import Block, Each, Expression, Name, expression
from wmdsl.lower.spaces import TIMED
from wmdsl.plan.nodes import Generation, Space
from wmdsl.plan.spaces import token_sources
from wmdsl.plan.split import Split, Tap, ahead, split

PATH = Name("path")


class Stepper:
    """The spaces of one generation, ahead of its loop and inside it.

    `told` are the trunks whose codes are computed ahead of the loop, by the variable that holds
    them in a step.
    """

    def __init__(
        self, writer: PassWriter, generation: Generation, passes: str, moving: Sequence[str]
    ):
        self.writer = writer
        self.frame = writer.frame
        self.context = writer.context
        self.model = writer.model
        self.generation = generation
        self.passes = passes
        self.moving = moving
        self.told: dict[str, Expression] = {}
        self.codes: dict[tuple[str, str], Name] = {}
        self.folded: dict[tuple[str, str], Name] = {}
        self._memory: dict[str, Name] = {}
        once, repeated = ahead(generation)
        self.once = once
        self.repeated = [(space, split(self.model, generation, space)) for space in repeated]

    def ahead(self) -> None:
        """Embed and run what stays the same."""
        if not self.generation.hoisted:
            return
        for space in self.once:
            self.writer.write_space(space, self.passes)
        for space, parts in self.repeated:
            self.writer.hoist(space, self.moving, self.generation.constant)
            if parts is not None:
                self._remember(parts)

    def _remember(self, parts: Split) -> None:
        space = parts.still
        told = self._tell_what_stands(space)
        path, method = remember_method(self.context, parts, tuple(told))
        wanted = "memory" if len(self.repeated) == 1 else f"{space.name}_memory"
        memory = self.frame.local(("memory", self.writer.label, space.name), wanted)
        names = tuple(self.writer.result(space, *tap, "given") for tap in path.results)
        arguments = self.writer.arguments(space, told)
        if path.masked:
            wanted = f"{self._wanted(space)}_GIVEN"
            mask = None if space.dense else self._mask(wanted, space, space.tokens, space.ranges)
            arguments = (*arguments, mask or Name("None"))
        self.frame.body.assign((memory, *names), method(*arguments))
        self.writer.hold(space, path.results, names)
        self._memory[space.name] = memory

    def _tell_what_stands(self, space: Space) -> dict[str, Name]:
        """What is told to the trunks of tokens that stay, where it follows from the weights."""
        roles = self.writer.evaluation.roles.items()
        times = {name: expression(1) for (_, name), role in roles if role == "pinned"}
        told = {}
        for trunk in (self.model.trunks[name] for name in space.trunks):
            if self.writer.codes.stands(space, trunk):
                once, lengths = self.writer.codes.told(space, trunk, times)
                steps = self._folded(trunk, expression([once]), lengths)
                key = ("given_told", self.writer.label, trunk.name, space.time)
                told[trunk.name] = self.frame.keep(key, f"{trunk.name}_given_told", steps[0])
        return told

    def _folded(self, trunk: Trunk, times: Expression, lengths: tuple[int, ...]) -> Expression:
        return Block("folded")(self.context.owned("trunk", trunk.name), times, lengths)

    def _wanted(self, space: Space) -> str:
        return f"{self.passes}_{space.name}".upper()

    def _mask(self, *arguments) -> Expression:
        return self.context.mask(*arguments)

    def fold(
        self, names: tuple[Name, ...], times: Mapping[str, Expression], part: str = ""
    ) -> None:
        """Compute the codes of all steps; the `times` of segments are those of a step of the path
        by these names.  A second `part` of a step has codes of its own."""
        for trunk in self._foldable():
            space = next(p.moving for _, p in self.repeated if p and trunk.name in p.moving.trunks)
            step, lengths = self.writer.codes.told(space, trunk, times)
            steps = self._folded(trunk, Each(step, names, PATH), lengths)
            key = ("folded", self.writer.label, trunk.name, part)
            wanted = f"{trunk.name}_steps{part}"
            self.folded[trunk.name, part] = self.frame.keep(key, wanted, steps)
            key = ("told", self.writer.label, trunk.name, part)
            self.codes[trunk.name, part] = self.frame.local(key, f"{trunk.name}_told{part}")
        self.tell("")

    def tell(self, part: str) -> None:
        """The next evaluation is told the codes of this part of a step."""
        self.told = {name: code for (name, found), code in self.codes.items() if found == part}

    def folds(self) -> bool:
        """Whether the codes of some trunk are computed ahead of the loop."""
        return bool(self._foldable())

    def _foldable(self) -> list[Trunk]:
        found = [
            (parts.moving, self.model.trunks[name])
            for _, parts in self.repeated
            if parts is not None
            for name in parts.moving.trunks
        ]
        return [trunk for space, trunk in found if self.writer.codes.folds(space, trunk)]

    def tells(self, reference: str) -> bool:
        """Whether some trunk or coupling is told a segment's time in every step."""
        if any(
            source.codec == TIME and source.segment.reference == reference
            for source in token_sources(self.model)
        ):
            return True
        folded = {trunk.name for trunk in self._foldable()}
        for space in (parts.moving if parts else space for space, parts in self.repeated):
            for trunk in (self.model.trunks[name] for name in space.trunks if name not in folded):
                names = {placed.group.name for placed in space.of_trunk(trunk.name)}
                told = trunk.kind in TIMED and trunk.told != "none"
                if told and (trunk.told == "all" or reference in names):
                    return True
        return False

    def code_ahead(self) -> None:
        """Compute the codes that no step changes, where nothing is told times."""
        for _, parts in self.repeated:
            for name in parts.moving.trunks if parts is not None else ():
                if self.model.trunks[name].kind == "dit":
                    self.told[name] = self.writer.codes.code(parts.moving, name)

    def step(self) -> None:
        """One evaluation inside the loop."""
        for space, parts in self.repeated:
            if parts is None:
                self.writer.write_space(space, self.passes)
            else:
                self._step(parts)

    def _step(self, parts: Split) -> None:
        space = parts.moving
        folded = tuple(name for name in space.trunks if (name, "") in self.folded)
        path, method = step_method(self.context, parts, self._results(parts), folded)
        arguments = (*self.writer.arguments(space, self.told), self._memory[space.name])
        if path.masked:
            wanted = f"{self._wanted(space)}_STEP"
            keys = parts.still.tokens + space.tokens
            mask = None if parts.dense else self._mask(wanted, space, keys, parts.rows)
            arguments = (*arguments, mask or Name("None"))
        names = tuple(self.writer.result(space, *tap) for tap in path.results)
        self.frame.body.assign(names, method(*arguments))
        self.writer.hold(space, path.results, names)

    def _results(self, parts: Split) -> tuple[Tap, ...]:
        """What is read of the moving tokens: by heads, and by couplings."""
        generates = self.model.generates.values()
        predicting = {name for generate in generates for name in generate.groups}
        moving = {*self.generation.segments, *self.generation.joint}
        heads = {
            placed.group.trunk
            for placed in parts.moving.groups
            if placed.key in predicting and placed.group.name in moving
        }
        found = {*parts.read, *((trunk, None) for trunk in heads)}
        order = list(parts.moving.trunks)
        return tuple(
            sorted(found, key=lambda tap: (order.index(tap[0]), -1 if tap[1] is None else tap[1]))
        )
