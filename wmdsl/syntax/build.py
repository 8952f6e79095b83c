"""Reductions of the grammar -> nodes of the syntax tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

from wmdsl.diagnostics import Diagnostics
from wmdsl.source import Source, Span
from wmdsl.syntax import ast, errors
from wmdsl.syntax.tokens import Token

LARGEST_EXPONENT, MOST_DIGITS = 18, 24
LONGEST_SUM = 32
_PLURALS = {"frame": "frames", "step": "steps"}


class Block(NamedTuple):
    """Attributes in braces, before the declaration around them is complete."""

    attributes: tuple[ast.Attribute, ...]


class Rows(NamedTuple):
    """Rows in the braces of an attend."""

    rows: tuple[ast.Sees | ast.Order, ...]


class Builder:
    """Makes nodes of one source.  `damage` holds the offsets at which errors were reported."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source, self.diagnostics = source, diagnostics
        self.damage: list[int] = []
        self._depths: dict[int, int] = {}

    def __call__(self, rule: str, children: tuple[Any, ...], start: int, end: int) -> Any:
        return _RULES[rule](self, children, Span(self.source, start, end))

    def name(self, token: Token) -> ast.Name:
        return ast.Name(token.text, self.span(token))

    def span(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)

    def number(self, token: Token) -> Fraction:
        """The exact value; an absurd number is reported and counts as one."""
        digits, _, exponent = token.text.lower().partition("e")
        if (
            len(digits) > MOST_DIGITS
            or len(exponent) > 3
            or (abs(int(exponent or "0")) > LARGEST_EXPONENT)
        ):
            self.diagnostics.add(errors.absurd_number(self.span(token)))
            return Fraction(1)
        return Fraction(token.text)

    def binary(self, node: ast.Binary) -> ast.Arithmetic:
        """The node; a sum of absurd length is reported and loses its end."""
        depth = 1 + max(self._depths.get(id(part), 0) for part in (node.left, node.right))
        if depth > LONGEST_SUM:
            self.diagnostics.add(errors.nested(node.span, LONGEST_SUM))
            return node.left
        self._depths[id(node)] = depth
        return node

    def declaration(self, form: str, parts: tuple[Any, ...], span: Span) -> ast.Declaration:
        """A declaration of a name, clauses and an optional block or rows."""
        named = bool(parts) and isinstance(parts[0], Token)
        keyword = Span(self.source, span.start, span.start + len(form))
        return ast.Declaration(
            form=form,
            name=self.name(parts[0]) if named else ast.Name(form, keyword),
            clauses=tuple(part for part in parts if isinstance(part, ast.Clause)),
            attributes=next((part.attributes for part in parts if isinstance(part, Block)), ()),
            rows=next((part.rows for part in parts if isinstance(part, Rows)), ()),
            span=span,
            damaged=any(span.start <= offset <= span.end for offset in self.damage),
        )


Rule = Callable[[Builder, tuple[Any, ...], Span], Any]


def _form(form: str) -> Rule:
    return lambda make, parts, span: make.declaration(form, parts, span)


def _list(role: str) -> Rule:
    return lambda make, parts, span: ast.Clause(role, parts, span)


def _one(role: str) -> Rule:
    """A clause of a single expression, which is not yet an item."""
    return lambda make, parts, span: ast.Clause(role, (ast.Item(parts[:1], span),), span)


def _of(kind: type | tuple[type, ...], parts: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(part for part in parts if isinstance(part, kind))


def _file(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.File:
    editions = _of(ast.Number, parts)
    return ast.File(
        edition=editions[0] if editions else None,
        imports=_of(ast.Import, parts),
        models=_of(ast.Model, parts),
        skipped=_of(ast.ErrorEntry, parts),
        span=span,
    )


def _model(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Model:
    name, *rest = parts
    base = rest.pop(0) if rest and isinstance(rest[0], ast.Reference) else None
    title = rest.pop(0).text[1:-1] if rest and isinstance(rest[0], Token) else ""
    return ast.Model(make.name(name), base, title, _flat(rest), span)


def _flat(entries: list[Any]) -> tuple[ast.Entry, ...]:
    """`objects a, b` is a tuple of declarations; everything else is one entry."""
    groups = [entry if type(entry) is tuple else (entry,) for entry in entries]
    return tuple(entry for group in groups for entry in group)


def _type(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Clause:
    name, *sizes = parts
    modality = ast.Reference((name.text,), None, make.span(name))
    call = ast.Call(modality, tuple(sizes), span)
    return ast.Clause("type", (ast.Item((call,), span),), span)


def _param(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Param:
    name, default, *domain = parts
    return ast.Param(make.name(name), default, domain[0] if domain else (), span)


def _override(make: Builder, parts: tuple[Any, ...], span: Span) -> Any:
    (entry,) = parts
    if type(entry) is tuple:
        return tuple(replace(part, mode="override") for part in entry)
    return replace(entry, mode="override", span=span)


def _objects(make: Builder, parts: tuple[Any, ...], span: Span) -> tuple[ast.Declaration, ...]:
    return tuple(
        ast.Declaration("objects", make.name(token), (), (), make.span(token)) for token in parts
    )


def _symbol(form: str) -> Rule:
    def build(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Declaration:
        name, *rest = parts
        arguments = [part for part in rest if isinstance(part, (Token, ast.Item))]
        others = [part for part in rest if not isinstance(part, (Token, ast.Item))]
        if not arguments:
            return make.declaration(form, (name, *others), span)
        items = tuple(_argument(make, part) for part in arguments)
        clause = ast.Clause("arguments", items, items[0].span.to(items[-1].span))
        return make.declaration(form, (name, clause, *others), span)

    return build


def _argument(make: Builder, part: Token | ast.Item) -> ast.Item:
    if isinstance(part, ast.Item):
        return part
    return ast.Item((ast.Reference((part.text,), None, make.span(part)),), make.span(part))


def _typed(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Item:
    return ast.Item(tuple(ast.Reference((part.text,), None, make.span(part)) for part in parts),
                    span)  # fmt: skip


def _extern(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Declaration:
    clauses = tuple(
        ast.Clause("reference", (ast.Item((_text(make, part),), make.span(part)),), make.span(part))
        if isinstance(part, Token) and part.kind == "STRING"
        else part
        for part in parts
    )
    return make.declaration("extern", clauses, span)


def _text(make: Builder, token: Token) -> ast.Text:
    return ast.Text(token.text[1:-1], make.span(token))


def _sees(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Sees:
    subjects, objects, *relations = parts
    nothing = len(objects) == 1 and objects[0] == ast.Reference(("nothing",), None, span)
    return ast.Sees(subjects, () if nothing else objects, tuple(relations), span)


def _binary(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Arithmetic:
    left, operator, right = parts
    return make.binary(ast.Binary(operator.text, left, right, span))


def _relation(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Relation:
    left, operator, right = parts
    return ast.Relation(operator.text, left, right, span)


def _assertion(kind: str) -> Rule:
    def build(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Assertion:
        sources, verb, target, *where = parts
        expressions = sources if type(sources) is tuple else (sources.terms[0],)
        place = make.name(where[0]) if where else None
        return ast.Assertion(kind, expressions, verb, target.terms[0], place, span)

    return build


def _attribute(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Attribute:
    return ast.Attribute(make.name(parts[0]), parts[1:], span)


def _item(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Item:
    terms = tuple(
        part if not isinstance(part, Token)
        else _text(make, part) if part.kind == "STRING"
        else _dims(make, part)
        for part in parts
    )  # fmt: skip
    return ast.Item(terms, span)


def _dims(make: Builder, token: Token) -> ast.Dims:
    sizes = token.text.split("x")
    if any(len(size) > MOST_DIGITS for size in sizes):
        make.diagnostics.add(errors.absurd_number(make.span(token)))
        return ast.Dims((1,) * len(sizes), make.span(token))
    return ast.Dims(tuple(int(size) for size in sizes), make.span(token))


def _quantity(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Number:
    number, *written = parts
    unit = _PLURALS.get(written[0].text, written[0].text) if written else None
    return ast.Number(make.number(number), unit, number.text, span)


def _range(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Range:
    low, high = parts
    return ast.Range(make.number(low), make.number(high), span)


def _call(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Call:
    return ast.Call(parts[0], parts[1:], span)


def _reference(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Reference:
    path = tuple(part.text for part in parts if isinstance(part, Token))
    return ast.Reference(path, None if isinstance(parts[-1], Token) else parts[-1], span)


def _index(make: Builder, parts: tuple[Any, ...], span: Span) -> ast.Number | ast.Range | ast.Name:
    (part,) = parts
    if not isinstance(part, Token):
        return part
    return make.name(part) if part.kind == "NAME" else _quantity(make, parts, make.span(part))


_RULES: dict[str, Rule] = {
    "file": _file,
    "edition": lambda make, parts, span: _quantity(make, parts, span),
    "import_": lambda make, parts, span: ast.Import(
        _text(make, parts[0]), make.name(parts[1]), span
    ),
    "model": _model,
    "param": _param,
    "domain": lambda make, parts, span: tuple(item.terms[0] for item in parts),
    "when": lambda make, parts, span: ast.When(
        make.name(parts[0]), parts[1].terms[0], _flat(list(parts[2:])), span
    ),
    "drop": lambda make, parts, span: ast.Drop(parts[0], make.name(parts[1]), span),
    "form": lambda make, parts, span: parts[0].text,
    "reach": lambda make, parts, span: "reach" if parts[0].text.startswith("reach") else "see",
    "override": _override,
    "type": _type,
    "rate": _one("at"),
    "kind": _one("kind"),
    "members": _list("members"),
    "source": _list("source"),
    "target": _list("target"),
    "way": _one("by"),
    "sought": _list("sought"),
    "given": _list("given"),
    "from": lambda make, parts, span: ast.Clause("from", parts, span),
    "extern": _extern,
    "objects": _objects,
    "predicate": _symbol("predicate"),
    "operator": _symbol("operator"),
    "typed": _typed,
    "rows": lambda make, parts, span: Rows(_of((ast.Sees, ast.Order), parts)),
    "sees": _sees,
    "subjects": lambda make, parts, span: tuple(item.terms[0] for item in parts),
    "objects_": lambda make, parts, span: tuple(item.terms[0] for item in parts),
    "order": lambda make, parts, span: ast.Order(parts[0].terms[0], parts[1], span),
    "relation": _relation,
    "binary_sum": _binary,
    "binary_product": _binary,
    "assert_flow": _assertion("flow"),
    "assert_no_flow": _assertion("no_flow"),
    "assert_only": _assertion("only"),
    "block": lambda make, parts, span: Block(_of(ast.Attribute, parts)),
    "attribute": _attribute,
    "item": _item,
    "expression": _item,
    "quantity": _quantity,
    "range": _range,
    "call": _call,
    "reference": _reference,
    "index": _index,
    "skipped": lambda make, parts, span: ast.ErrorEntry(span),
} | {
    form: _form(form)
    for form in (
        "stream", "codec", "trunk", "join", "cross", "condition", "align", "hand", "attend",
        "generate", "query", "layout", "stage", "planner",
    )
}  # fmt: skip
