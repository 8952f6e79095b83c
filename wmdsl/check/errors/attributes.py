"""What is written of an attribute: its name, value, unit and number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wmdsl.check.errors.wording import choices, error, listed, replacing, titled
from wmdsl.check.model import Trunk
from wmdsl.diagnostics import Diagnostic, did_you_mean
from wmdsl.source import Span
from wmdsl.syntax import ast
from wmdsl.vocabulary import FORMS, Attribute, Form, Kind

EXPECTED = {
    "integer": "a whole number", "integers": "whole numbers", "real": "a number",
    "share": "a number from 0 to 1", "flag": "nothing", "text": 'a text in quotes, as "hub/id"',
    "choice": "one word", "choices": "words", "name": "a name", "names": "names",
    "dims": "sizes joined by x", "heads": "heads x head dim, as `6x32` or `6x32 kv 2`",
    "length": "a length, as `4 frames`, `16 steps` or `0.2 s`", "rate": "a rate, as `20 Hz`",
    "duration": "a time, as `30 s`",
    "layers": "`all`, `even`, `odd`, `last`, numbers, or a range as `0..27 every 4`",
    "law": "a noise law", "teacher": "a teacher", "guard": "a guard", "tokens": "token groups",
    "segments": "segments", "per_stream": "a number, or one for each stream", "parts": "parts",
    "weights": "a number", "any": "a value", "texts": "texts in quotes",
    "views": "names, each with a size as `head 256x320` or all without",
}  # fmt: skip
UNITS = {"length": "`frames`, `steps`, `s` or `ms`",
         "rate": "`Hz` or `kHz`", "duration": "`s` or `ms`"}  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
           "eleven", "twelve")  # fmt: skip
FORM_WORDS = {"stream": "modality", "codec": "codec kind", "trunk": "trunk kind",
              "condition": "mechanism", "align": "distance", "generate": "objective",
              "planner": "planner kind", "order": "place of a token", "where": "order key",
              "tap": "option of a tap"}  # fmt: skip


def unknown_attribute(
    attribute: ast.Attribute,
    form: Form,
    declaration: ast.Declaration,
    rows: Mapping[str, Attribute],
) -> Diagnostic:
    word = attribute.name.text
    owners = [kind.name for kind in (form.kinds or {}).values() if kind.attribute(word)]
    elsewhere = [name for name, other in FORMS.items() if any(
        row.name == word for row in other.attributes)]  # fmt: skip
    notes = ()
    if owners:
        notes = (f"`{word}` belongs to {form.name}s of kind {listed(owners)}",)
    elif elsewhere:
        notes = (f"`{word}` is an attribute of {listed(elsewhere)}",)
    near = did_you_mean(word, rows)
    help = "remove it" if notes else choices(word, rows, f"a {form.name} has no attributes")
    if near:
        notes, help = (), f"did you mean `{near}`?"
    return error(
        "WM121", f"{titled(declaration)} has no attribute `{word}`", attribute.name.span,
        "unknown here", help=help, notes=notes, fixes=replacing(attribute.name.span, near),
    )  # fmt: skip


def missing_attribute(row: Attribute, declaration: ast.Declaration) -> Diagnostic:
    return error(
        "WM122", f"{titled(declaration)} does not say its `{row.name}`", declaration.name.span,
        f"needs `{row.name}`", help=f"add `{row.name}`: {row.doc[0].lower()}{row.doc[1:]}",
    )  # fmt: skip


def head_missing(declaration: ast.Declaration) -> Diagnostic:
    example = FORMS[declaration.form].example.splitlines()[0]
    return error(
        "WM122", f"{titled(declaration)} has no head", declaration.name.span,
        "what follows the colon is missing", help=f"write it like `{example}`",
    )  # fmt: skip


def value_missing(row: Attribute, attribute: ast.Attribute) -> Diagnostic:
    return error("WM124", f"`{row.name}` has no value", attribute.span, "nothing follows",
                 help=f"give it {EXPECTED[row.type]}")  # fmt: skip


def flag_with_value(row: Attribute, attribute: ast.Attribute) -> Diagnostic:
    span = attribute.items[0].span.to(attribute.items[-1].span)
    return error("WM124", f"`{row.name}` takes no value", span, "one too many",
                 help=f"write `{row.name}` alone, or leave it out")  # fmt: skip


def wrong_type(row: Attribute, term: ast.Expression) -> Diagnostic:
    text = term.span.text
    meant = str(NUMBERS.index(text.lower())) if text.lower() in NUMBERS else None
    numeric = row.type in ("integer", "integers", "real", "share", "per_stream", "length", "rate")
    fix = meant if numeric else None
    help = f"write `{fix}`" if fix else f"give it {_expected(row)}"
    kind = {ast.Text: "a text", ast.Number: "a number", ast.Dims: "sizes",
            ast.Range: "a range", ast.Call: "a call"}.get(type(term), "a word")  # fmt: skip
    return error(
        "WM124", f"`{row.name}` takes {_expected(row)}, not `{text}`", term.span, f"this is {kind}",
        help=help, fixes=replacing(term.span, fix),
    )  # fmt: skip


def _expected(row: Attribute) -> str:
    example = f", as `{row.default}`" if row.type == "dims" and row.default else ""
    return EXPECTED[row.type] + example


def wrong_unit(row: Attribute, term: ast.Number) -> Diagnostic:
    units = UNITS.get(row.type) or (f"`{row.unit}`" if row.unit else "no unit")
    bare = term.text.removesuffix(term.unit or "").strip()
    return error(
        "WM125", f"`{row.name}` is not measured in {term.unit}", term.span,
        f"takes {units}", help=f"write `{' '.join((row.name, bare, _unit(row))).rstrip()}`",
    )  # fmt: skip


def _unit(row: Attribute) -> str:
    return {"length": "steps", "rate": "Hz", "duration": "s"}.get(row.type, row.unit or "")


def unit_missing(row: Attribute, term: ast.Number) -> Diagnostic:
    text = term.span.text
    return error("WM125", f"`{row.name} {text}` does not say its unit", term.span,
                 f"{text} of what?", help=f"units here are {UNITS[row.type]}")  # fmt: skip


def out_of_range(row: Attribute, term: ast.Number) -> Diagnostic:
    return error("WM126", f"`{row.name}` cannot be {term.text}", term.span,
                 f"must be {_bounds(row)}", help=f"{row.name}: {row.doc}")  # fmt: skip


def _bounds(row: Attribute) -> str:
    if row.type == "share":
        return "from 0 to 1"
    least = f"at least {row.minimum:g}" if row.minimum is not None else ""
    most = f"at most {row.maximum}" if row.maximum is not None else ""
    return " and ".join(filter(None, (least, most)))


def zero_size(row: Attribute, term: ast.Expression) -> Diagnostic:
    return error("WM126", f"`{row.name}` cannot hold a size of 0", term.span, "must be at least 1",
                 help=f"{row.name}: {row.doc}")  # fmt: skip


def not_whole(row: Attribute, term: ast.Expression) -> Diagnostic:
    return error("WM124", f"`{row.name}` takes a whole number, not {term.span.text}", term.span,
                 "not whole", help="round it")  # fmt: skip


def too_many_values(row: Attribute, items: tuple[ast.Item, ...]) -> Diagnostic:
    span = items[1].span.to(items[-1].span)
    return error("WM124", f"`{row.name}` takes one value, {len(items)} are given", span,
                 "too many", help="a comma continues a list; `;` or a line break ends an entry",
                 )  # fmt: skip


def too_many_terms(row: Attribute, item: ast.Item) -> Diagnostic:
    return error("WM124", f"`{row.name}` takes {_expected(row)}, not `{item.span.text}`",
                 item.span, help="`;` or a line break ends an entry, a comma continues a list",
                 )  # fmt: skip


def comma_for_break(before: Span, item: ast.Item) -> Diagnostic:
    gap = Span(before.source, before.end, item.span.start)
    comma = before.source.text.find(",", gap.start, gap.end)
    span = Span(before.source, comma, comma + 1)
    return error(
        "WM127", f"a comma stands before `{item.terms[0].span.text}`, where an entry begins", span,
        "a comma continues the list", help="write `;` or a line break", fixes=replacing(span, ";"),
    )  # fmt: skip


def unknown_word(span: Span, word: str, place: str, allowed: Iterable[str]) -> Diagnostic:
    names = list(allowed)
    what = FORM_WORDS.get(place, f"value of `{place}`")
    near = did_you_mean(word, names)
    return error(
        "WM123", f"`{word}` is no {what}", span, "unknown word",
        help=choices(word, names), fixes=replacing(span, near),
        notes=(f"there are: {listed(names)}",) if near and len(names) < 12 else (),
    )  # fmt: skip


def not_a_call(item: ast.Item, what: str, table: Mapping[str, Kind]) -> Diagnostic:
    examples = [_signature(kind) for kind in table.values()]
    return error("WM124", f"`{item.span.text}` is no {what}", item.span,
                 help=f"there are: {listed(examples)}")  # fmt: skip


def _signature(kind: Kind) -> str:
    names = ", ".join(row.name for row in kind.arguments)
    return f"{kind.name}({names})" if names else kind.name


def start_wanted(term: ast.Expression) -> Diagnostic:
    return error("WM124", "`init` takes a hub id, or `resize` and a trunk", term.span,
                 "this is neither",
                 help='write `init "hub/id"` or `init resize TRUNK`')  # fmt: skip


def resize_differs(attribute: ast.Attribute, source: Trunk, own: Trunk) -> Diagnostic:
    return error(
        "WM124", f"{source.name} cannot be resized into {own.name}", attribute.span,
        f"{own.layers} blocks of kind {own.kind}",
        (source.span, f"{source.layers} blocks of kind {source.kind}"),
        help="resize a trunk of the same kind and depth",
    )  # fmt: skip


def part_without_weight(item: ast.Item) -> Diagnostic:
    return error("WM124", f"`{item.span.text}` is no part of a mixture", item.span, "",
                 help="write a law and its weight, as `uniform(0, 1) 0.3`")  # fmt: skip


def law_beyond(attribute: ast.Attribute, objective: str) -> Diagnostic:
    return error("WM126", f"times of {objective} lie between 0 and 1", attribute.span,
                 "goes beyond 1", help="0 is clean data, 1 is pure noise")  # fmt: skip


def weighting_without_levels(attribute: ast.Attribute) -> Diagnostic:
    return error("WM123", "this objective has no noise levels to weight by", attribute.span,
                 "counts the error by the noise level of EDM",
                 help="write `weighting even` or `bell`, or generate it by edm")  # fmt: skip


def wrong_arguments(kind: Kind, count: int, span: Span) -> Diagnostic:
    sizes = ", ".join(row.name for row in kind.arguments)
    wanted = f"{kind.name}[{sizes}]" if "[" in span.text else f"{kind.name}({sizes})"
    wanted = wanted if sizes else kind.name
    return error("WM201", f"`{span.text}` has {count} sizes or arguments", span,
                 f"{kind.name} takes {len(kind.arguments)}", help=f"write `{wanted}`")  # fmt: skip
