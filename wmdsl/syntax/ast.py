"""The syntax tree: what was written, with a span on every node and no meaning yet.

All declarations share one shape (form, name, clauses, attributes), so that the formatter, the
canonical form, `extends` and `diff` are written once; the vocabulary says what each form may hold.
"""

from __future__ import annotations

import re
from fractions import Fraction

from wmdsl.record import field, record
from wmdsl.source import Span


@record
class Name:
    text: str
    span: Span = field(compare=False)


@record
class Number:
    """A number with an optional unit, as `20 Hz`, `32 steps`, `0.1`; `text` is as written.

    `1 frame` and `1 step` carry the units `frames` and `steps`.
    """

    value: Fraction
    unit: str | None
    text: str = field(compare=False)
    span: Span = field(compare=False)


@record
class Dims:
    """Sizes joined by x, as `24x128`."""

    values: tuple[int, ...]
    span: Span = field(compare=False)


@record
class Text:
    value: str
    span: Span = field(compare=False)


@record
class Range:
    """`low..high`, both included."""

    low: Fraction
    high: Fraction
    span: Span = field(compare=False)


@record
class Reference:
    """A dotted name with an optional index: `camera.future`, `clip[0..2]`, `register[32]`."""

    path: tuple[str, ...]
    index: Number | Range | Name | None
    span: Span = field(compare=False)

    @property
    def dotted(self) -> str:
        return ".".join(self.path)


@record
class Call:
    """A function applied to items: `eyes(corner.now)`, `tap(video_dit, layer 19)`."""

    function: Reference
    arguments: tuple[Item, ...]
    span: Span = field(compare=False)


Expression = Number | Dims | Text | Range | Reference | Call


@record
class Item:
    """Expressions side by side: one element of a comma list, as `camera 25, action 50`."""

    terms: tuple[Expression, ...]
    span: Span = field(compare=False)


@record
class Attribute:
    """`name item, item`; without items it is a flag."""

    name: Name
    items: tuple[Item, ...]
    span: Span = field(compare=False)


@record
class Clause:
    """A part of a declaration's head; `Declaration` lists the roles."""

    role: str
    items: tuple[Item, ...]
    span: Span = field(compare=False)


@record
class Binary:
    operator: str
    left: Arithmetic
    right: Arithmetic
    span: Span = field(compare=False)


Arithmetic = Binary | Number | Reference


@record
class Relation:
    """A comparison in `where`: `q` and `k` are the order keys of the query and the key token."""

    operator: str
    left: Arithmetic
    right: Arithmetic
    span: Span = field(compare=False)


@record
class Sees:
    """`subjects sees objects where relations`; `nothing` is an empty tuple of objects."""

    subjects: tuple[Expression, ...]
    objects: tuple[Expression, ...]
    relations: tuple[Relation, ...]
    span: Span = field(compare=False)


@record
class Order:
    """`order camera by 2 * chunk`: the block index that `where` compares."""

    subject: Expression
    key: Arithmetic
    span: Span = field(compare=False)


@record
class Declaration:
    """Any declaration.  `objects a, b` is one for each name; an unnamed attend is called `attend`.

    `mode` is `new` or `override`; an attend keeps its rows in `rows`.  `damaged` says that a
    syntax error was reported inside, so that what is missing here is no further mistake.

    Roles of clauses: `type` (a call, as `video[3, 64, 64]`) and `at` of a stream; `kind` of a
    codec, trunk or planner; `members` of a join; `source`, `target`, `by` of the other couplings
    and of generate; one `sought` for each `then`, and `given`, of a query; `reference` of an
    extern; `arguments` (`b: block` is an item of two names) and `from` of symbols.
    """

    form: str
    name: Name
    clauses: tuple[Clause, ...]
    attributes: tuple[Attribute, ...]
    span: Span = field(compare=False)
    rows: tuple[Sees | Order, ...] = ()
    mode: str = "new"
    damaged: bool = False

    def clause(self, role: str) -> Clause | None:
        return next((clause for clause in self.clauses if clause.role == role), None)

    def attribute(self, name: str) -> Attribute | None:
        return next((entry for entry in self.attributes if entry.name.text == name), None)


@record
class Param:
    """`param chunk = 16 steps in 8..64` or `param size = full in full, tiny`."""

    name: Name
    default: Item
    domain: tuple[Expression, ...]
    span: Span = field(compare=False)
    mode: str = "new"


@record
class When:
    """Entries that hold only where a parameter has a value: `when size is tiny { ... }`."""

    parameter: Name
    value: Expression
    entries: tuple[Entry, ...]
    span: Span = field(compare=False)


@record
class Drop:
    form: str
    name: Name
    span: Span = field(compare=False)


@record
class Assertion:
    """`kind` is `flow`, `no_flow` or `only`; `verb` is `reach` (transitive) or `see` (one step)."""

    kind: str
    sources: tuple[Expression, ...]
    verb: str
    target: Expression
    where: Name | None
    span: Span = field(compare=False)


@record
class ErrorEntry:
    """Text that recovery skipped, so that later stages may go on without what it declares."""

    span: Span

    def mentions(self, name: str) -> bool:
        """Whether the skipped text holds `name` as a word, and so may have declared it."""
        return re.search(rf"\b{re.escape(name)}\b", self.span.text) is not None


Entry = Param | When | Drop | Declaration | Assertion | ErrorEntry


@record
class Model:
    name: Name
    base: Reference | None
    title: str
    entries: tuple[Entry, ...]
    span: Span = field(compare=False)


@record
class Import:
    path: Text
    alias: Name
    span: Span = field(compare=False)


@record
class File:
    edition: Number | None
    imports: tuple[Import, ...]
    models: tuple[Model, ...]
    skipped: tuple[ErrorEntry, ...]
    span: Span = field(compare=False)
    comments: tuple[Span, ...] = field(default=(), compare=False)
