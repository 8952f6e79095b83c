"""Two methods over an attention space in a sampling loop: keys and values of the tokens that stay,
once, and the blocks of the tokens that change, in every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wmdsl.check.model import Trunk
from wmdsl.lower.context import Context
from wmdsl.lower.program import Expression, Name, Parameter, expression, joined, me, of
from wmdsl.lower.spaces import Loop, Route
from wmdsl.plan.split import Split, splits

MEMORY = Name("memory")
CACHE = "list[tuple[Tensor, Tensor]]"


@dataclass(frozen=True, slots=True)
class Memorised(Route):
    """`folded` trunks take what their codes stand for, which follows from the weights alone."""

    verb: str  # remember | step
    folded: tuple[str, ...] = ()


def all_splits(context: Context) -> Iterator[Split]:
    """The spaces of all loops that are cut in two."""
    for question in context.questions:
        for step in question.chain:
            yield from splits(context.model, step)


def remember_method(
    context: Context, parts: Split, folded: tuple[str, ...]
) -> tuple[Route, Expression]:
    """The method that gives keys and values of what stays, and what is read of it."""
    space = parts.still
    others = [other.still for other in all_splits(context)]
    masked = any(not other.dense for other in others if _same(other, space))
    path = Memorised(space.name, space.trunks, space.layers, parts.taps, masked, "remember", folded)
    return _written(context, path, Remember)


def step_method(
    context: Context, parts: Split, results: tuple, folded: tuple[str, ...]
) -> tuple[Route, Expression]:
    """The method that runs what changes."""
    space = parts.moving
    masked = any(not other.dense for other in all_splits(context) if _same(other.moving, space))
    path = Memorised(space.name, space.trunks, space.layers, results, masked, "step", folded)
    return _written(context, path, Step)


def _same(left, right) -> bool:
    return (left.name, left.trunks, left.layers) == (right.name, right.trunks, right.layers)


def _written(context: Context, path: Memorised, kind: type[Informed]) -> tuple[Route, Expression]:
    if path not in context.methods:
        context.methods[path] = kind(context, path).method()
    return path, of(me, context.methods[path].name)


class Informed(Loop):
    """The base of a loop whose folded trunks are told their numbers block by block."""

    def _shares(self, trunk: Trunk) -> bool:
        return super()._shares(trunk) and trunk.name not in self.path.folded

    def _told(self, trunk: Trunk) -> Parameter:
        if trunk.name in self.path.folded:
            return Parameter(self._code(trunk).text, "Told")
        return super()._told(trunk)

    def _code(self, trunk: Trunk) -> Name:
        if trunk.name in self.path.folded:
            return Name(self.names.of(("told", trunk.name), self._own(trunk, "told")))
        return super()._code(trunk)

    def _stacks(self) -> Iterator[tuple[Expression, Expression]]:
        yield from super()._stacks()
        for trunk in self.trunks:
            if trunk.name in self.path.folded:
                yield self._local(trunk, "modulation"), self._numbers(trunk)

    def _numbers(self, trunk: Trunk) -> Expression:
        blocks = of(self._code(trunk), "blocks")
        return blocks if self.path.layers == trunk.layers else blocks[: self.path.layers]

    def _modulate(self, trunk: Trunk) -> None:
        if trunk.name not in self.path.folded:
            super()._modulate(trunk)

    def _normed(self, trunk: Trunk, norm: Expression) -> Expression:
        if trunk.name not in self.path.folded:
            return super()._normed(trunk, norm)
        return of(norm, "modulate")(self._x(trunk.name), of(self._code(trunk), "norm"))


class Remember(Informed):
    """Keys and values, block by block; behind the last keys only what is read is computed."""

    verb = "remember"

    def _begin(self) -> None:
        super()._begin()
        self.body.assign(MEMORY, expression([]))

    def _doc(self) -> str:
        return f"Keys and values of {self._named()} that no step changes, block by block."

    def _needs_depth(self) -> bool:
        return super()._needs_depth() or not self._whole()

    def _whole(self) -> bool:
        """Whether somebody reads what the last block puts out."""
        return any(layer is None or layer == self.path.layers for _, layer in self.path.results)

    def _seen(self, key: list[Expression], value: list[Expression]):
        pair = joined(key), joined(value)
        if len(key) > 1:
            names = tuple(Name(self.names.of(what, what)) for what in ("key", "value"))
            for name, joint in zip(names, pair, strict=True):
                self.body.assign(name, joint)
            pair = names
        self.body.do(of(MEMORY, "append")(pair))
        if not self._whole():
            with self.body.branch(Name("depth").is_(self.path.layers - 1)):
                self.body.leave()
        return pair

    def _results(self) -> tuple[Expression, ...]:
        return (MEMORY, *super()._results())

    def _returns(self) -> str:
        if not self.path.results:
            return CACHE
        return f"tuple[{CACHE}, {', '.join(['Tensor'] * len(self.path.results))}]"


class Step(Informed):
    """Tokens that see what is remembered, then themselves."""

    verb = "step"

    def _doc(self) -> str:
        return f"The blocks of {self._named()}, seeing `memory` and themselves."

    def _parameters(self) -> Iterator[Parameter]:
        *first, last = super()._parameters()
        memory = Parameter(MEMORY.text, CACHE)
        yield from first
        yield from (memory, last) if self.path.masked else (last, memory)

    def _stacks(self) -> Iterator[tuple[Expression, Expression]]:
        yield from super()._stacks()
        yield expression((self._kept("key"), self._kept("value"))), MEMORY

    def _kept(self, what: str) -> Name:
        return Name(self.names.of(("kept", what), f"kept_{what}"))

    def _seen(self, key: list[Expression], value: list[Expression]):
        return joined([self._kept("key"), *key]), joined([self._kept("value"), *value])
