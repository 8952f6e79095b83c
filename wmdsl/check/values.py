"""Attributes -> typed values, by the rows of the vocabulary; one function for every form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from functools import cache

from wmdsl.check import errors
from wmdsl.check.model import CallValue, Value
from wmdsl.check.scope import Draft, Mistake, Values
from wmdsl.diagnostics import did_you_mean
from wmdsl.record import field, record
from wmdsl.source import Source, Span
from wmdsl.syntax import ast
from wmdsl.vocabulary import GUARDS, LAWS, TEACHERS, Attribute, Form, Kind

LISTS = ("integers", "choices", "names", "tokens", "segments", "per_stream", "parts", "weights",
         "any", "dims", "texts", "views")  # fmt: skip
LENGTH_UNITS = {"step": "step", "steps": "step", "frame": "frame", "frames": "frame", "s": "s",
                "ms": "s"}  # fmt: skip
UNRUNNABLE_ATTRIBUTE = "WM807"


@record
class Length:
    """A written length: samples, or seconds that the stream's rate turns into samples."""

    value: Fraction
    unit: str
    span: Span = field(compare=False)


@record
class Layers:
    """Blocks of a trunk before its depth is known: a word, numbers, or a range with a stride."""

    word: str
    numbers: tuple[int, ...]
    low: int
    high: int
    every: int
    span: Span = field(compare=False)


def attributes(
    draft: Draft, form: Form, declaration: ast.Declaration, kind: Kind | None = None
) -> Values:
    """Every attribute of a declaration, defaults filled in; those in error are left out."""
    rows = {row.name: row for row in form.attributes_of(kind.name if kind else None)}
    written = _written(draft, form, declaration, rows)
    meant = {did_you_mean(name, rows) for name in written if name not in rows}
    values = Values()
    for row in rows.values():
        with draft.guard():
            if row.name in meant and row.name not in written:
                raise Mistake
            values[row.name] = _value(draft, row, written.get(row.name), declaration)
    values.damaged = len(values) < len(rows)
    return values


def _written(
    draft: Draft, form: Form, declaration: ast.Declaration, rows: dict[str, Attribute]
) -> dict[str, ast.Attribute]:
    """The attributes written, each once; unknown ones are reported."""
    found: dict[str, ast.Attribute] = {}
    for attribute in _split(draft, declaration.attributes, rows):
        name = attribute.name.text
        if name not in rows:
            draft.report(errors.attributes.unknown_attribute(attribute, form, declaration, rows))
        found.setdefault(name, attribute)
    return found


def _split(
    draft: Draft, written: Iterable[ast.Attribute], rows: dict[str, Attribute]
) -> Iterable[ast.Attribute]:
    """Attributes that a comma has run into one list become attributes of their own again."""
    for attribute in written:
        cut = _comma_mistake(attribute, rows)
        if cut is None:
            yield attribute
            continue
        item = attribute.items[cut]
        draft.report(errors.attributes.comma_for_break(attribute.items[cut - 1].span, item))
        yield replace(attribute, items=attribute.items[:cut])
        word = item.terms[0]
        name = ast.Name(word.dotted, word.span)
        rest = (ast.Item(item.terms[1:], item.span),) if item.terms[1:] else ()
        yield from _split(
            draft, [ast.Attribute(name, rest + attribute.items[cut + 1 :], item.span)], rows
        )


def _comma_mistake(attribute: ast.Attribute, rows: dict[str, Attribute]) -> int | None:
    """Number of the first item that is an attribute of its own."""
    row = rows.get(attribute.name.text)
    for at, item in enumerate(attribute.items[1:], 1):
        word = item.terms[0]
        if not isinstance(word, ast.Reference) or word.dotted not in rows:
            continue
        if len(item.terms) > 1 or (row and row.type not in LISTS):
            return at
    return None


def _value(
    draft: Draft, row: Attribute, attribute: ast.Attribute | None, declaration: ast.Declaration
) -> Value:
    if attribute is not None:
        value = typed(row, attribute)
        if not row.runs and value != default(row):
            draft.cannot_run(UNRUNNABLE_ATTRIBUTE, f"`{row.name}`", attribute.span)
        return value
    if row.required:
        raise Mistake(
            None if declaration.damaged else errors.attributes.missing_attribute(row, declaration)
        )
    return default(row)


def typed(row: Attribute, attribute: ast.Attribute) -> Value:
    """The value of a written attribute; Mistake where it is none of the row's type."""
    if row.type == "flag":
        return _flag(row, attribute)
    if not attribute.items:
        raise Mistake(errors.attributes.value_missing(row, attribute))
    return _READERS[row.type](row, attribute.items)


@cache
def default(row: Attribute) -> Value:
    """The value that stands where an attribute is not written."""
    if row.type == "flag":
        return False
    if row.default is None:
        return None
    source = Source("<default>", row.default)
    span = Span(source, 0, len(row.default))
    items = tuple(ast.Item((_word(text, span),), span) for text in row.default.split(", "))
    return _READERS[row.type](row, items)


def _word(text: str, span: Span) -> ast.Expression:
    if re.fullmatch(r"\d+(x\d+)+", text):
        return ast.Dims(tuple(int(part) for part in text.split("x")), span)
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return ast.Number(Fraction(text), None, text, span)
    return ast.Reference((text,), None, span)


def number(row: Attribute, item: ast.Item) -> Fraction:
    """The number of an item of one term, inside the row's bounds and without a unit."""
    term = _one(row, item)
    if not isinstance(term, ast.Number):
        raise Mistake(errors.attributes.wrong_type(row, term))
    if term.unit is not None and term.unit != row.unit:
        raise Mistake(errors.attributes.wrong_unit(row, term))
    _check_bounds(row, term)
    if row.type == "share" and not 0 <= term.value <= 1:
        raise Mistake(errors.attributes.out_of_range(row, term))
    return term.value


def _check_bounds(row: Attribute, term: ast.Number) -> None:
    low = row.minimum is not None and term.value < Fraction(row.minimum)
    if low or (row.maximum is not None and term.value > row.maximum):
        raise Mistake(errors.attributes.out_of_range(row, term))


def integer(row: Attribute, item: ast.Item) -> int:
    value = number(row, item)
    if value.denominator != 1:
        raise Mistake(errors.attributes.not_whole(row, item.terms[0]))
    return int(value)


def word(row: Attribute, item: ast.Item) -> str:
    """One of the row's choices."""
    term = _one(row, item)
    text = term.dotted if isinstance(term, ast.Reference) else term.span.text.strip('"')
    if text not in row.choices:
        raise Mistake(errors.attributes.unknown_word(term.span, text, row.name, row.choices))
    return text


def call(table: dict[str, Kind], what: str, item: ast.Item) -> CallValue:
    """A row of a table with its arguments: `beta(1.5, 1.0)`, `uniform`."""
    term = item.terms[0]
    if len(item.terms) > 1 or not isinstance(term, ast.Reference | ast.Call):
        raise Mistake(errors.attributes.not_a_call(item, what, table))
    name = term.function if isinstance(term, ast.Call) else term
    if name.dotted not in table:
        raise Mistake(errors.attributes.unknown_word(name.span, name.dotted, what, table))
    written = term.arguments if isinstance(term, ast.Call) else ()
    if _takes_all(table[name.dotted]) and written:
        return CallValue(
            name.dotted, tuple(part for it in written for part in _weighted(table, it))
        )
    return CallValue(name.dotted, arguments(table[name.dotted], written, term.span))


def _takes_all(kind: Kind) -> bool:
    return [row.type for row in kind.arguments] == ["any"]


def _weighted(table: dict[str, Kind], item: ast.Item) -> tuple[CallValue, Fraction]:
    """A part of a mixture: `lognormal(1.4, 1.2) 0.7`."""
    law, *weight = item.terms
    if len(weight) != 1 or not isinstance(weight[0], ast.Number):
        raise Mistake(errors.attributes.part_without_weight(item))
    return call(table, "mix", ast.Item((law,), law.span)), weight[0].value


def arguments(kind: Kind, written: tuple[ast.Item, ...], span: Span) -> tuple[Value, ...]:
    """Positional arguments by a kind's rows; absent ones take their default."""
    rows = kind.arguments
    if not sum(row.required for row in rows) <= len(written) <= len(rows):
        raise Mistake(errors.attributes.wrong_arguments(kind, len(written), span))
    given = len(written)
    pairs = zip(rows[:given], written, strict=True)
    values = [_READERS[row.type](row, (_unnamed(part),)) for row, part in pairs]
    return (*values, *(default(row) for row in rows[given:]))


def _unnamed(item: ast.Item) -> ast.Item:
    """An argument may carry a name for the reader: `video[rgb 3, h 224, w 448]`."""
    named = len(item.terms) == 2 and isinstance(item.terms[0], ast.Reference)
    return ast.Item(item.terms[1:], item.span) if named else item


def _flag(row: Attribute, attribute: ast.Attribute) -> bool:
    if attribute.items:
        raise Mistake(errors.attributes.flag_with_value(row, attribute))
    return True


def _one(row: Attribute, item: ast.Item) -> ast.Expression:
    if len(item.terms) > 1:
        raise Mistake(errors.attributes.too_many_terms(row, item))
    return item.terms[0]


def _single(row: Attribute, items: tuple[ast.Item, ...]) -> ast.Item:
    if len(items) > 1:
        raise Mistake(errors.attributes.too_many_values(row, items))
    return items[0]


def _text(row: Attribute, item: ast.Item) -> str:
    term = _one(row, item)
    if not isinstance(term, ast.Text):
        raise Mistake(errors.attributes.wrong_type(row, term))
    return term.value


def _name(row: Attribute, item: ast.Item) -> ast.Reference:
    term = _one(row, item)
    if not isinstance(term, ast.Reference):
        raise Mistake(errors.attributes.wrong_type(row, term))
    return term


def _dims(row: Attribute, item: ast.Item) -> tuple[int, ...]:
    term = _one(row, item)
    wanted = len(row.default.split("x")) if row.default else None
    if not isinstance(term, ast.Dims) or (wanted and len(term.values) != wanted):
        raise Mistake(errors.attributes.wrong_type(row, term))
    if 0 in term.values:
        raise Mistake(errors.attributes.zero_size(row, term))
    return term.values


def _heads(row: Attribute, item: ast.Item) -> tuple[int, int | None, int]:
    """(heads, head dim or None where the width decides, key heads)."""
    head, *tail = item.terms
    if isinstance(head, ast.Dims) and len(head.values) == 2:
        heads, dim = head.values
    elif isinstance(head, ast.Number) and head.unit is None and head.value.denominator == 1:
        heads, dim = int(head.value), None
    else:
        raise Mistake(errors.attributes.wrong_type(row, head))
    if heads < 1 or dim == 0:
        raise Mistake(errors.attributes.zero_size(row, head))
    if not tail:
        return heads, dim, heads
    if len(tail) != 2 or tail[0] != ast.Reference(("kv",), None, tail[0].span):
        raise Mistake(errors.attributes.too_many_terms(row, item))
    few = replace(row, name="kv", type="integer", minimum=1)
    return heads, dim, integer(few, ast.Item(tail[1:], item.span))


def _length(row: Attribute, item: ast.Item) -> Length:
    term = _one(row, item)
    if not isinstance(term, ast.Number):
        raise Mistake(errors.attributes.wrong_type(row, term))
    if term.unit is None and term.value != 0:
        raise Mistake(errors.attributes.unit_missing(row, term))
    unit = LENGTH_UNITS.get(term.unit or "steps")
    if unit is None:
        raise Mistake(errors.attributes.wrong_unit(row, term))
    _check_bounds(row, term)
    if unit != "s" and term.value.denominator != 1:
        raise Mistake(errors.attributes.not_whole(row, term))
    return Length(term.value / (1000 if term.unit == "ms" else 1), unit, term.span)


def _duration(row: Attribute, item: ast.Item) -> Fraction:
    """Seconds of `30 s` or `200 ms`."""
    term = _one(row, item)
    if not isinstance(term, ast.Number):
        raise Mistake(errors.attributes.wrong_type(row, term))
    if term.unit not in ("s", "ms"):
        raise Mistake(
            errors.attributes.wrong_unit(row, term)
            if term.unit
            else errors.attributes.unit_missing(row, term)
        )
    return term.value / (1000 if term.unit == "ms" else 1)


def rate(term: ast.Expression) -> Fraction:
    """Hertz of `20 Hz`."""
    row = Attribute("at", "rate", "Samples per second.", unit="Hz")
    if not isinstance(term, ast.Number):
        raise Mistake(errors.attributes.wrong_type(row, term))
    if term.unit not in ("Hz", "kHz"):
        raise Mistake(
            errors.attributes.wrong_unit(row, term)
            if term.unit
            else errors.attributes.unit_missing(row, term)
        )
    if term.value <= 0:
        raise Mistake(errors.rates.rate_not_positive(term))
    return term.value * (1000 if term.unit == "kHz" else 1)


def _layers(row: Attribute, items: tuple[ast.Item, ...]) -> Layers:
    span = items[0].span.to(items[-1].span)
    first = items[0].terms[0]
    if isinstance(first, ast.Reference) and len(items) == len(items[0].terms) == 1:
        words = ("all", "even", "odd", "last")
        if first.dotted not in words:
            raise Mistake(errors.attributes.unknown_word(first.span, first.dotted, row.name, words))
        return Layers(first.dotted, (), 0, 0, 1, span)
    if isinstance(first, ast.Range) and len(items) == 1:
        return Layers("", (), int(first.low), int(first.high), _stride(row, items[0]), span)
    plain = replace(row, minimum=0)
    return Layers("", tuple(integer(plain, item) for item in items), 0, 0, 1, span)


def _stride(row: Attribute, item: ast.Item) -> int:
    """The n of `0..27 every n`."""
    tail = item.terms[1:]
    if not tail:
        return 1
    if len(tail) != 2 or tail[0] != ast.Reference(("every",), None, tail[0].span):
        raise Mistake(errors.attributes.too_many_terms(row, item))
    return integer(replace(row, name="every", minimum=1), ast.Item(tail[1:], item.span))


def _each(read: Callable[[Attribute, ast.Item], Value]) -> Callable[..., Value]:
    return lambda row, items: tuple(read(row, item) for item in items)


def _only(read: Callable[[Attribute, ast.Item], Value]) -> Callable[..., Value]:
    return lambda row, items: read(row, _single(row, items))


def _table(table: dict[str, Kind]) -> Callable[..., Value]:
    return lambda row, items: call(table, row.name, _single(row, items))


def _items(row: Attribute, items: tuple[ast.Item, ...]) -> tuple[ast.Item, ...]:
    return items


_READERS: dict[str, Callable[[Attribute, tuple[ast.Item, ...]], Value]] = {
    "integer": _only(integer),
    "integers": _each(integer),
    "real": _only(number),
    "share": _only(number),
    "text": _only(_text),
    "texts": _each(_text),
    "views": _items,
    "choice": _only(word),
    "choices": _each(word),
    "name": _only(_name),
    "names": _each(_name),
    "dims": _only(_dims),
    "heads": _only(_heads),
    "length": _only(_length),
    "duration": _only(_duration),
    "layers": _layers,
    "law": _table(LAWS),
    "teacher": _table(TEACHERS),
    "guard": _table(GUARDS),
    "tokens": _items,
    "segments": _items,
    "per_stream": _items,
    "parts": _items,
    "weights": _items,
    "any": _items,
}
