"""The target program: a small tree of Python, independent of its layout.

Expressions are built with Python's own operators: `torch.cat(parts, dim=1)` is a tree of nodes.
Names that come from a spec go through `of(base, name)`: they may equal a field of a node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass

from wmdsl.source import Span


class Expression:
    """Base of all expressions; every operator builds a node."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Expression:
        if name.startswith("__"):
            raise AttributeError(name)
        return Attribute(self, name)

    def __call__(self, *arguments: object, **keywords: object) -> Expression:
        named = tuple((name, expression(value)) for name, value in keywords.items())
        return Call(self, tuple(expression(value) for value in arguments), named)

    def __getitem__(self, index: object) -> Expression:
        items = index if isinstance(index, tuple) else (index,)
        return Index(self, tuple(expression(item) for item in items))

    def __add__(self, other: object) -> Expression:
        return Binary("+", self, expression(other))

    def __radd__(self, other: object) -> Expression:
        return Binary("+", expression(other), self)

    def __sub__(self, other: object) -> Expression:
        return Binary("-", self, expression(other))

    def __rsub__(self, other: object) -> Expression:
        return Binary("-", expression(other), self)

    def __mul__(self, other: object) -> Expression:
        return Binary("*", self, expression(other))

    def __rmul__(self, other: object) -> Expression:
        return Binary("*", expression(other), self)

    def __truediv__(self, other: object) -> Expression:
        return Binary("/", self, expression(other))

    def is_(self, other: object) -> Expression:
        return Binary("==", self, expression(other))

    def below(self, other: object) -> Expression:
        return Binary("<", self, expression(other))

    def in_(self, other: object) -> Expression:
        return Binary("in", self, expression(other))

    def or_(self, other: object) -> Expression:
        return Binary("or", self, expression(other))


@dataclass(frozen=True, slots=True)
class Name(Expression):
    text: str


@dataclass(frozen=True, slots=True)
class Block(Expression):
    """A class or function of `wmdsl.blocks`; its source is copied into the emitted file."""

    text: str


@dataclass(frozen=True, slots=True)
class Literal(Expression):
    value: object


@dataclass(frozen=True, slots=True)
class Attribute(Expression):
    base: Expression
    name: str


@dataclass(frozen=True, slots=True)
class Call(Expression):
    function: Expression
    arguments: tuple[Expression, ...]
    keywords: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, slots=True)
class Index(Expression):
    base: Expression
    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Slice(Expression):
    start: int | None
    stop: int | None


@dataclass(frozen=True, slots=True)
class Binary(Expression):
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Sequence(Expression):
    """A tuple or a list display."""

    items: tuple[Expression, ...]
    bracket: str  # ( or [


@dataclass(frozen=True, slots=True)
class Table(Expression):
    """A dict display with text keys."""

    items: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, slots=True)
class Each(Expression):
    """`[element for name, name in iterable]`"""

    element: Expression
    names: tuple[Name, ...]
    iterable: Expression


@dataclass(frozen=True, slots=True)
class Assign:
    targets: tuple[Expression, ...]
    value: Expression
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Do:
    """An expression for its effect."""

    value: Expression
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Return:
    value: Expression


@dataclass(frozen=True, slots=True)
class Break:
    """Leaves the innermost loop."""


@dataclass(frozen=True, slots=True)
class Section:
    """A comment line that heads the statements below it; with its line of the spec."""

    text: str
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class For:
    targets: tuple[Expression, ...]
    iterable: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class If:
    condition: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class With:
    context: Expression
    body: tuple[Statement, ...]


Statement = Assign | Do | Return | Break | Section | For | If | With


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    annotation: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    parameters: tuple[Parameter, ...]
    returns: str
    doc: str
    body: tuple[Statement, ...]
    decorator: str | None = None
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Program:
    """One emitted file: `constants` are module-level names, then one class."""

    title: str
    header: tuple[str, ...]
    constants: tuple[Assign, ...]
    class_name: str
    doc: str
    methods: tuple[Method, ...]


class Body:
    """Statements under construction."""

    def __init__(self) -> None:
        self._statements: list[Statement] = []

    @property
    def statements(self) -> tuple[Statement, ...]:
        return tuple(self._statements)

    def pruned(self, *names: Name) -> tuple[Statement, ...]:
        """The statements without those that only set one of these names, which nobody reads."""
        kept = self._statements
        for name in names:
            uses = sum(text == name.text for text in texts(tuple(kept), Name))
            if uses == 1:
                kept = [s for s in kept if not (isinstance(s, Assign) and s.targets == (name,))]
        return tuple(kept)

    def section(self, text: str, span: Span | None = None) -> None:
        self._statements.append(Section(text, span))

    def assign(self, target: object, value: object, span: Span | None = None) -> None:
        targets = target if isinstance(target, tuple) else (target,)
        self._statements.append(Assign(targets, expression(value), span))

    def do(self, value: Expression, span: Span | None = None) -> None:
        self._statements.append(Do(value, span))

    def give_back(self, value: object) -> None:
        self._statements.append(Return(expression(value)))

    def leave(self) -> None:
        self._statements.append(Break())

    @contextmanager
    def loop(self, target: object, iterable: Expression) -> Iterator[None]:
        targets = target if isinstance(target, tuple) else (target,)
        with self._nested() as body:
            yield
        self._statements.append(For(targets, iterable, body.statements))

    @contextmanager
    def branch(self, condition: Expression) -> Iterator[None]:
        with self._nested() as body:
            yield
        self._statements.append(If(condition, body.statements))

    @contextmanager
    def context(self, value: Expression) -> Iterator[None]:
        with self._nested() as body:
            yield
        self._statements.append(With(value, body.statements))

    @contextmanager
    def _nested(self) -> Iterator[Body]:
        outer, inner = self._statements, Body()
        self._statements = inner._statements
        yield inner
        self._statements = outer


def expression(value: object) -> Expression:
    """A node for a plain Python value; nodes stay as they are."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, (tuple, list)):
        items = tuple(expression(item) for item in value)
        return Sequence(items, "(" if isinstance(value, tuple) else "[")
    if isinstance(value, dict):
        return Table(tuple((key, expression(item)) for key, item in value.items()))
    if isinstance(value, slice):
        return Slice(value.start, value.stop)
    return Literal(value)


me = Name("self")
torch = Name("torch")
nn = Name("nn")


def of(base: Expression, *names: str) -> Expression:
    """base.name.name..."""
    for name in names:
        base = Attribute(base, name)
    return base


def repeated(element: Expression, count: int) -> Expression:
    """A list of so many of an expression, each made anew."""
    return Each(element, (Name("_"),), Name("range")(count))


def joined(parts: list[Expression], axis: int = 1) -> Expression:
    """The parts concatenated along an axis; a single part stays as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)


def texts(node: object, kind: type) -> Iterator[str]:
    """The texts of all names, or of all blocks, under a node, in order."""
    if isinstance(node, kind):
        yield node.text
    elif isinstance(node, tuple):
        for part in node:
            yield from texts(part, kind)
    elif is_dataclass(node):
        for entry in fields(node):
            if entry.name != "span":
                yield from texts(getattr(node, entry.name), kind)
