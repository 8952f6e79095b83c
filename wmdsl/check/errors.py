"""Every message of the checker: one constructor each, prose nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from wmdsl.check.model import (
    Align,
    Attend,
    Codec,
    Generate,
    Rule,
    Segment,
    Stream,
    TokenGroup,
    TokenSource,
    Trunk,
)
from wmdsl.diagnostics import Diagnostic, Edit, Fix, Label, did_you_mean
from wmdsl.source import Span
from wmdsl.syntax import ast
from wmdsl.vocabulary import FORMS, Attribute, Form, Kind

Declared = Mapping[str, object]

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


def _error(
    code: str,
    message: str,
    span: Span,
    label: str = "",
    *others: tuple[Span, str],
    help: str = "",
    notes: tuple[str, ...] = (),
    fixes: tuple[Fix, ...] = (),
) -> Diagnostic:
    labels = (Label(span, label), *(Label(where, text, primary=False) for where, text in others))
    return Diagnostic(code, message, labels, notes, help, fixes)


def _replace(span: Span, text: str | None, safe: bool = False) -> tuple[Fix, ...]:
    return (Fix(safe, (Edit(span, text),)),) if text else ()


def _choices(word: str, allowed: Iterable[str], none: str = "") -> str:
    """Did-you-mean, else everything that may stand there."""
    near = did_you_mean(word, allowed)
    if near:
        return f"did you mean `{near}`?"
    return f"there are: {_and(allowed)}" if list(allowed) else none


def _and(words: Iterable[object]) -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{word}`" for word in (sorted(words) if isinstance(words, set) else words)]
    if not quoted:
        return "none"
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _or(words: Iterable[object]) -> str:
    """`a`, `b` or `c`."""
    quoted = [f"`{word}`" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _decimal(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):g}"


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _name(declaration: ast.Declaration) -> str:
    return f"{declaration.form} `{declaration.name.text}`"


# --- names and attributes ------------------------------------------------------------------------


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
        notes = (f"`{word}` belongs to {form.name}s of kind {_and(owners)}",)
    elif elsewhere:
        notes = (f"`{word}` is an attribute of {_and(elsewhere)}",)
    near = did_you_mean(word, rows)
    help = "remove it" if notes else _choices(word, rows, f"a {form.name} has no attributes")
    if near:
        notes, help = (), f"did you mean `{near}`?"
    return _error(
        "WM121", f"{_name(declaration)} has no attribute `{word}`", attribute.name.span,
        "unknown here", help=help, notes=notes, fixes=_replace(attribute.name.span, near),
    )  # fmt: skip


def missing_attribute(row: Attribute, declaration: ast.Declaration) -> Diagnostic:
    return _error(
        "WM122", f"{_name(declaration)} does not say its `{row.name}`", declaration.name.span,
        f"needs `{row.name}`", help=f"add `{row.name}`: {row.doc[0].lower()}{row.doc[1:]}",
    )  # fmt: skip


def head_missing(declaration: ast.Declaration) -> Diagnostic:
    example = FORMS[declaration.form].example.splitlines()[0]
    return _error(
        "WM122", f"{_name(declaration)} has no head", declaration.name.span,
        "what follows the colon is missing", help=f"write it like `{example}`",
    )  # fmt: skip


def value_missing(row: Attribute, attribute: ast.Attribute) -> Diagnostic:
    return _error("WM124", f"`{row.name}` has no value", attribute.span, "nothing follows",
                  help=f"give it {EXPECTED[row.type]}")  # fmt: skip


def flag_with_value(row: Attribute, attribute: ast.Attribute) -> Diagnostic:
    span = attribute.items[0].span.to(attribute.items[-1].span)
    return _error("WM124", f"`{row.name}` takes no value", span, "one too many",
                  help=f"write `{row.name}` alone, or leave it out")  # fmt: skip


def wrong_type(row: Attribute, term: ast.Expression) -> Diagnostic:
    text = term.span.text
    meant = str(NUMBERS.index(text.lower())) if text.lower() in NUMBERS else None
    numeric = row.type in ("integer", "integers", "real", "share", "per_stream", "length", "rate")
    fix = meant if numeric else None
    help = f"write `{fix}`" if fix else f"give it {_expected(row)}"
    kind = {ast.Text: "a text", ast.Number: "a number", ast.Dims: "sizes",
            ast.Range: "a range", ast.Call: "a call"}.get(type(term), "a word")  # fmt: skip
    return _error(
        "WM124", f"`{row.name}` takes {_expected(row)}, not `{text}`", term.span, f"this is {kind}",
        help=help, fixes=_replace(term.span, fix),
    )  # fmt: skip


def _expected(row: Attribute) -> str:
    example = f", as `{row.default}`" if row.type == "dims" and row.default else ""
    return EXPECTED[row.type] + example


def wrong_unit(row: Attribute, term: ast.Number) -> Diagnostic:
    units = UNITS.get(row.type) or (f"`{row.unit}`" if row.unit else "no unit")
    bare = term.span.text[: len(term.span.text) - len(term.unit or "")].strip()
    return _error(
        "WM125", f"`{row.name}` is not measured in {term.unit}", term.span,
        f"takes {units}", help=f"write `{' '.join((row.name, bare, _unit(row))).rstrip()}`",
    )  # fmt: skip


def _unit(row: Attribute) -> str:
    return {"length": "steps", "rate": "Hz", "duration": "s"}.get(row.type, row.unit or "")


def unit_missing(row: Attribute, term: ast.Number) -> Diagnostic:
    text = term.span.text
    return _error("WM125", f"`{row.name} {text}` does not say its unit", term.span,
                  f"{text} of what?", help=f"units here are {UNITS[row.type]}")  # fmt: skip


def out_of_range(row: Attribute, term: ast.Number) -> Diagnostic:
    bounds = "from 0 to 1" if row.type == "share" else f"at least {row.minimum:g}"
    return _error("WM126", f"`{row.name}` cannot be {term.span.text}", term.span,
                  f"must be {bounds}", help=f"{row.name}: {row.doc}")  # fmt: skip


def zero_size(row: Attribute, term: ast.Expression) -> Diagnostic:
    return _error("WM126", f"`{row.name}` cannot hold a size of 0", term.span, "must be at least 1",
                  help=f"{row.name}: {row.doc}")  # fmt: skip


def not_whole(row: Attribute, term: ast.Expression) -> Diagnostic:
    return _error("WM124", f"`{row.name}` takes a whole number, not {term.span.text}", term.span,
                  "not whole", help="round it")  # fmt: skip


def too_many_values(row: Attribute, items: tuple[ast.Item, ...]) -> Diagnostic:
    span = items[1].span.to(items[-1].span)
    return _error("WM124", f"`{row.name}` takes one value, {len(items)} are given", span,
                  "too many", help="a comma continues a list; `;` or a line break ends an entry",
                  )  # fmt: skip


def too_many_terms(row: Attribute, item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{row.name}` takes {_expected(row)}, not `{item.span.text}`",
                  item.span, help="`;` or a line break ends an entry, a comma continues a list",
                  )  # fmt: skip


def comma_for_break(before: Span, item: ast.Item) -> Diagnostic:
    gap = Span(before.source, before.end, item.span.start)
    comma = before.source.text.find(",", gap.start, gap.end)
    span = Span(before.source, comma, comma + 1)
    return _error(
        "WM127", f"a comma stands before `{item.terms[0].span.text}`, where an entry begins", span,
        "a comma continues the list", help="write `;` or a line break", fixes=_replace(span, ";"),
    )  # fmt: skip


def unknown_word(span: Span, word: str, place: str, allowed: Iterable[str]) -> Diagnostic:
    names = list(allowed)
    what = FORM_WORDS.get(place, f"value of `{place}`")
    near = did_you_mean(word, names)
    return _error(
        "WM123", f"`{word}` is no {what}", span, "unknown word",
        help=_choices(word, names), fixes=_replace(span, near),
        notes=(f"there are: {_and(names)}",) if near and len(names) < 12 else (),
    )  # fmt: skip


def not_a_call(item: ast.Item, what: str, table: Mapping[str, Kind]) -> Diagnostic:
    examples = [_signature(kind) for kind in table.values()]
    return _error("WM124", f"`{item.span.text}` is no {what}", item.span,
                  help=f"there are: {_and(examples)}")  # fmt: skip


def _signature(kind: Kind) -> str:
    names = ", ".join(row.name for row in kind.arguments)
    return f"{kind.name}({names})" if names else kind.name


def start_wanted(term: ast.Expression) -> Diagnostic:
    return _error("WM124", "`init` takes a hub id, or `resize` and a trunk", term.span,
                  "this is neither",
                  help='write `init "hub/id"` or `init resize TRUNK`')  # fmt: skip


def resize_differs(attribute: ast.Attribute, source: Trunk, own: Trunk) -> Diagnostic:
    return _error(
        "WM124", f"{source.name} cannot be resized into {own.name}", attribute.span,
        f"{own.layers} blocks of kind {own.kind}",
        (source.span, f"{source.layers} blocks of kind {source.kind}"),
        help="resize a trunk of the same kind and depth",
    )  # fmt: skip


def part_without_weight(item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` is no part of a mixture", item.span, "",
                  help="write a law and its weight, as `uniform(0, 1) 0.3`")  # fmt: skip


def law_beyond(attribute: ast.Attribute, objective: str) -> Diagnostic:
    return _error("WM126", f"times of {objective} lie between 0 and 1", attribute.span,
                  "goes beyond 1", help="0 is clean data, 1 is pure noise")  # fmt: skip


def weighting_without_levels(attribute: ast.Attribute) -> Diagnostic:
    return _error("WM123", "this objective has no noise levels to weight by", attribute.span,
                  "counts the error by the noise level of EDM",
                  help="write `weighting even` or `bell`, or generate it by edm")  # fmt: skip


def wrong_arguments(kind: Kind, count: int, span: Span) -> Diagnostic:
    sizes = ", ".join(row.name for row in kind.arguments)
    wanted = f"{kind.name}[{sizes}]" if "[" in span.text else f"{kind.name}({sizes})"
    wanted = wanted if sizes else kind.name
    return _error("WM201", f"`{span.text}` has {count} sizes or arguments", span,
                  f"{kind.name} takes {len(kind.arguments)}", help=f"write `{wanted}`")  # fmt: skip


def unknown_stream(
    reference: ast.Reference, known: Declared, other: ast.Declaration | None
) -> Diagnostic:
    name = reference.path[0]
    head = Span(reference.span.source, reference.span.start, reference.span.start + len(name))
    if other is not None:
        return _error("WM128", f"`{name}` is {_a(other.form)}, not a stream", reference.span,
                      "a stream stands here", (other.name.span, "declared here"),
                      help=_choices(name, known, "declare a stream"))  # fmt: skip
    return _error(
        "WM120", f"there is no stream `{name}`", reference.span, "unknown",
        help=_choices(name, known, "declare it: `stream NAME: video[3, 64, 64] at 20 Hz { ... }`"),
        fixes=_replace(head, did_you_mean(name, known)),
    )  # fmt: skip


def unknown_segment(reference: ast.Reference, stream: Stream) -> Diagnostic:
    have = [segment.name for segment in stream.segments if segment.name != "whole"]
    part = reference.path[1]
    near = did_you_mean(part, have)
    if near:
        help = f"did you mean `{stream.name}.{near}`?"
    elif not have:
        help = f"`{stream.name}` has no segments; refer to it by its bare name"
    elif part in ("past", "now", "future"):
        help = f"give `{stream.name}` one, as `{part} 1 frame`, or use {_and(have)}"
    else:
        help = f"segments of `{stream.name}`: {_and(have)}"
    return _error("WM120", f"stream `{stream.name}` has no segment `{part}`", reference.span,
                  "unknown", (stream.span, "the stream"), help=help,
                  fixes=_replace(reference.span, near and f"{stream.name}.{near}"))  # fmt: skip


def bad_slice(reference: ast.Reference, found: Sequence[Segment]) -> Diagnostic:
    last = sum(len(segment.offsets) for segment in found) - 1
    name = ".".join(reference.path)
    return _error("WM126", f"`{reference.span.text}` names samples that are not there",
                  reference.span, f"`{name}` has 0..{last}",
                  help="samples are counted from 0")  # fmt: skip


def slice_by_name(reference: ast.Reference) -> Diagnostic:
    return _error("WM124", f"`{reference.span.text}` is no slice", reference.span, "",
                  help="samples are named by numbers, as `clip[0..2]`")  # fmt: skip


def segment_wanted(expression: ast.Expression) -> Diagnostic:
    return _error("WM128", f"`{expression.span.text}` is no stream", expression.span,
                  "a stream or a segment stands here",
                  help="write a name, as `corner.future`")  # fmt: skip


def name_wanted(expression: ast.Expression, what: str) -> Diagnostic:
    return _error("WM128", f"`{expression.span.text}` is no name", expression.span,
                  f"{what} stands here", help="write the name of a declaration")  # fmt: skip


def one_name_wanted(item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` is more than one thing", item.span,
                  "one name stands here", help="separate the elements of a list by commas",
                  )  # fmt: skip


def one_argument(call: ast.Call) -> Diagnostic:
    return _error("WM124", f"`{call.span.text}` must name one thing to read", call.span,
                  help=f"write `{call.function.dotted}(corner.now)`")  # fmt: skip


def one_target(clause: ast.Clause) -> Diagnostic:
    return _error("WM124", f"one name stands here, {len(clause.items)} are given", clause.span,
                  "too many", help="write one declaration for each")  # fmt: skip


def one_segment(span: Span, found: Sequence[Segment]) -> Diagnostic:
    names = [segment.reference for segment in found]
    return _error("WM128", f"one segment stands here, this names {_and(names)}", span,
                  help=f"write the one that is meant, as `{names[-1]}`")  # fmt: skip


def listed_twice(name: str, first: Span, second: Span) -> Diagnostic:
    return _error("WM130", f"`{name}` is listed twice", second, "again here", (first, "first here"),
                  help="remove one of them")  # fmt: skip


def unknown_trunk(
    reference: ast.Reference, what: str, known: Declared, other: ast.Declaration | None
) -> Diagnostic:
    name = reference.path[0]
    if other is not None:
        return _error("WM128", f"`{name}` is {_a(other.form)}; {what} stands here", reference.span,
                      "wrong kind of thing", (other.name.span, "declared here"),
                      help=_choices(name, known, "declare a trunk"))  # fmt: skip
    return _error("WM120", f"there is no trunk `{name}`", reference.span, f"{what} stands here",
                  help=_choices(name, known, "declare it: `trunk NAME: dit { ... }`"),
                  fixes=_replace(reference.span, did_you_mean(name, known)))  # fmt: skip


def unknown_codec(
    reference: ast.Reference, known: Declared, other: ast.Declaration | None
) -> Diagnostic:
    name = reference.dotted
    if other is not None:
        return _error("WM128", f"`{name}` is {_a(other.form)}, not a codec", reference.span,
                      "a codec stands here", (other.name.span, "declared here"),
                      help=_choices(name, known, "declare a codec"))  # fmt: skip
    return _error("WM120", f"there is no codec `{name}`", reference.span, "unknown",
                  help=_choices(name, known, f"declare it: `codec {name}: conv {{ ... }}`"),
                  fixes=_replace(reference.span, did_you_mean(name, known)))  # fmt: skip


def unknown_space(declaration: ast.Declaration, known: Iterable[str]) -> Diagnostic:
    name, names = declaration.name, list(known)
    return _error("WM120", f"`{name.text}` is no attention space", name.span,
                  "a join, a trunk outside of joins, or a layout stands here",
                  help=_choices(name.text, names, "leave the name out"),
                  fixes=_replace(name.span, did_you_mean(name.text, names)))  # fmt: skip


def unknown_place(name: ast.Name, known: Iterable[str]) -> Diagnostic:
    names = list(known)
    return _error("WM120", f"there is no query, stage or layout `{name.text}`", name.span,
                  "unknown", help=_choices(name.text, names, "leave `in` out"))  # fmt: skip


def unknown_part(name: ast.Expression, what: str, known: Iterable[str]) -> Diagnostic:
    names, text = list(known), name.span.text
    return _error("WM120", f"there is no {what} `{text}`", name.span, "unknown",
                  help=_choices(text, names, f"declare a {what}"),
                  fixes=_replace(name.span, did_you_mean(text, names)))  # fmt: skip


def stream_unread(declaration: ast.Declaration) -> Diagnostic:
    name = declaration.name
    return _error("WM131", f"nobody reads stream `{name.text}`", name.span, "declared, never read",
                  help="put it into the tokens of a trunk, or remove it: "
                  f"`drop stream {name.text}`")  # fmt: skip


def segment_unread(segment: Segment) -> Diagnostic:
    return _error("WM131", f"nobody reads `{segment.reference}`", segment.span,
                  "declared, never read",
                  help="put it into the tokens of a trunk, or remove this line")  # fmt: skip


def codec_unused(declaration: ast.Declaration) -> Diagnostic:
    name = declaration.name
    return _error("WM132", f"nothing goes through codec `{name.text}`", name.span,
                  "its parameters would be reached by no forward pass",
                  help=f"read a stream through it, or remove it: `drop codec {name.text}`",
                  )  # fmt: skip


def codec_inherited(declaration: ast.Declaration, model: Span) -> Diagnostic:
    name = declaration.name
    return _error("WM911", f"codec `{name.text}` of a base model is not used", name.span,
                  "left out of the model", (model, "by this model"),
                  help=f"write `drop codec {name.text}` to say so")  # fmt: skip


def extern_unused(declaration: ast.Declaration) -> Diagnostic:
    name = declaration.name
    return _error("WM132", f"nothing calls extern `{name.text}`", name.span, "never called",
                  help=f"use it, or remove it: `drop extern {name.text}`")  # fmt: skip


def name_shared(first: ast.Declaration, second: ast.Declaration) -> Diagnostic:
    return _error("WM133", f"`{second.name.text}` names a {first.form} and a {second.form}",
                  second.name.span, f"the {second.form}",
                  (first.name.span, f"the {first.form}"), help="rename one of them")  # fmt: skip


# --- shapes --------------------------------------------------------------------------------------


def bad_part(item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` is no part of a vector", item.span,
                  help="write a name and how many numbers it has, as `xyz 3 m`")  # fmt: skip


def parts_differ(parts: Span, total: int, type_: Span, size: int) -> Diagnostic:
    return _error("WM202", f"the parts have {total} numbers, the stream has {size}", parts,
                  f"these add up to {total}", (type_, f"this says {size}"),
                  help=f"add or remove a part, or write `[{total}]`")  # fmt: skip


def bad_view(item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` is no view of a canvas", item.span,
                  help="write a name and a size in pixels for each, as `head 256x320`, or names "
                  "only")  # fmt: skip


def view_with_size(item: ast.Item, arrange: str) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` has a size, but views arranged as {arrange} have "
                  "that of the stream", item.span, help="write the name only")  # fmt: skip


def keys_for_views(declaration: ast.Declaration, keys: int, views: int) -> Diagnostic:
    labels = [(declaration.attribute("views").span, f"views: {views}")] * (views > 1)
    return _error("WM202", f"stream `{declaration.name.text}` names {keys} columns for "
                  f"{views} cameras", declaration.attribute("key").span,
                  f"columns: {keys}", *labels, help="write one column for each view")  # fmt: skip


def views_without_frames(declaration: ast.Declaration, shape: tuple[int, ...]) -> Diagnostic:
    return _error("WM201", f"stream `{declaration.name.text}` has views, but its samples are "
                  f"{list(shape)}", declaration.attribute("views").span,
                  help="only frames have views")  # fmt: skip


def canvas_not_filled(declaration: ast.Declaration, frame: tuple[int, int]) -> Diagnostic:
    height, width = frame
    return _error("WM202", f"the views do not fill the canvas of {height} x {width}",
                  declaration.attribute("views").span, "left to right, row by row",
                  (declaration.clause("type").span, f"{height} x {width}"),
                  help="give the views of a row one height, and rows the whole width")  # fmt: skip


def codec_needs_frame(span: Span, codec: Codec, stream: Stream) -> Diagnostic:
    return _error("WM201", f"codec `{codec.name}` reads frames; `{stream.name}` has the shape "
                  f"{list(stream.shape)}", span, f"a {codec.kind} codec",
                  (stream.span, "the stream"),
                  help="frames are [channels, height, width]")  # fmt: skip


def strides_for_channels(span: Span, codec: Codec, strides: int, channels: int) -> Diagnostic:
    return _error("WM202", f"codec `{codec.name}` has {strides} strides for {channels} channels",
                  codec.span, "one stride for each stage, or one for all", (span, "read here"),
                  help=f"write {channels} numbers behind `strides`, or one")  # fmt: skip


def codec_needs_vector(span: Span, codec: Codec, stream: Stream) -> Diagnostic:
    return _error("WM201", f"codec `{codec.name}` reads vectors; `{stream.name}` has the shape "
                  f"{list(stream.shape)}", span, f"a {codec.kind} codec",
                  (stream.span, "the stream"), help="use a codec of kind `patch`")  # fmt: skip


def frame_not_divided(
    span: Span, stream: Stream, codec: Codec, size: tuple[int, int], cell: tuple[int, ...]
) -> Diagnostic:
    height, width = size
    heights, widths = _near(cell[0], height), _near(cell[1], width)
    fits = dict.fromkeys(f"{h}x{w}" for h, w in zip(heights, widths, strict=True))
    return _error("WM203", f"{height}x{width} of `{stream.name}` do not divide into "
                  f"{cell[0]}x{cell[1]}", span, "through this codec", (codec.span, "the codec"),
                  (stream.span, "the stream"), help=f"sizes that fit: {_and(fits)}")  # fmt: skip


def _near(cell: int, size: int) -> tuple[int, int]:
    """The divisors of `size` next below and next above `cell`."""
    divisors = [number for number in range(1, size + 1) if size % number == 0]
    below = [number for number in divisors if number <= cell]
    above = [number for number in divisors if number >= cell]
    return below[-1], (above or divisors)[0 if above else -1]


def frames_not_divided(span: Span, segment: Segment, codec: Codec, deep: int) -> Diagnostic:
    count = segment.length
    fits = sorted({count - count % deep, count - count % deep + deep} - {0})
    return _error("WM203", f"`{segment.reference}` has {count} frames; codec `{codec.name}` takes "
                  f"{deep} at a time", span, "", (segment.span, f"{count} frames"),
                  (codec.span, f"{deep} frames make one latent frame"),
                  help=f"take {' or '.join(map(str, fits))} frames")  # fmt: skip


def channels_needed(codec: Codec, span: Span) -> Diagnostic:
    return _error("WM122", f"codec `{codec.name}` does not say its `channels`", codec.span,
                  "needs `channels`", (span, "read here"),
                  help="add `channels`: the numbers in one latent cell")  # fmt: skip


def heads_do_not_divide(
    heads: ast.Attribute, count: int, width: ast.Attribute, size: int
) -> Diagnostic:
    fits = sorted(range(1, size + 1), key=lambda n: (size % n > 0, abs(n - count)))[:2]
    return _error("WM204", f"{count} heads do not divide the width {size}", heads.span,
                  f"{count} heads", (width.span, f"width {size}"),
                  help=f"take {' or '.join(str(n) for n in sorted(fits))} heads, or name the head "
                  f"dim: `heads {count}x32`")  # fmt: skip


def key_heads_do_not_divide(heads: ast.Attribute, count: int, kv: int) -> Diagnostic:
    fits = [number for number in range(1, count + 1) if count % number == 0]
    return _error("WM205", f"{kv} key heads do not divide {count} heads", heads.span,
                  "every key head serves equally many heads",
                  help=f"`kv` may be {_or(fits)}")  # fmt: skip


def rope_cannot_split(
    heads: ast.Attribute, head_dim: int, positions: ast.Attribute, kind: str
) -> Diagnostic:
    wanted = "even" if kind == "rope_1d" else "even and at least 6"
    near = max(head_dim - head_dim % 2, 2 if kind == "rope_1d" else 6)
    return _error("WM206", f"{kind} cannot split a head dim of {head_dim}", heads.span,
                  f"head dim {head_dim}", (positions.span, "rotates pairs of channels"),
                  help=f"the head dim must be {wanted}, as {near}")  # fmt: skip


def join_differs(
    join: ast.Declaration, size: str, sides: Sequence[tuple[Trunk, ast.Attribute]]
) -> Diagnostic:
    (left, first), (right, second) = sides
    here, there = getattr(left, size), getattr(right, size)
    what = {"kv_heads": "key heads", "head_dim": "head dim"}.get(size, size)
    return _error("WM207", f"`{left.name}` and `{right.name}` cannot attend as one: {what} "
                  f"{here} and {there}", join.span, "joined here",
                  (first.span, f"{what} {here}"), (second.span, f"{what} {there}"),
                  help="joined trunks share layers, heads, key heads and head dim; width and ffn "
                  "are each trunk's own")  # fmt: skip


def align_counts_differ(
    source: TokenSource, target: Span, frames: int, per_frame: int
) -> Diagnostic:
    count = frames * per_frame
    return _error("WM208", f"{source.count} tokens are aligned with {count}", source.span,
                  f"{source.count} tokens", (target, f"{frames} x {per_frame} = {count} tokens"),
                  help=f"make both {count}, as `learned[{count}]`, or pool the target")  # fmt: skip


def align_widths_differ(source: TokenSource, target: Span, features: int) -> Diagnostic:
    return _error("WM209", f"width {source.width} is compared with width {features} without a "
                  "projector", source.span, f"width {source.width}",
                  (target, f"width {features}"), help="write `projector linear`")  # fmt: skip


def no_such_block(span: Span, block: int | None, trunk: Trunk) -> Diagnostic:
    found = "the range names none" if block is None else f"there is no block {block}"
    return _error("WM210", f"trunk `{trunk.name}` has {trunk.layers} blocks; {found}", span, "",
                  (trunk.span, f"blocks 0 to {trunk.layers - 1}"),
                  help=f"blocks are counted from 0 to {trunk.layers - 1}")  # fmt: skip


def too_deep(span: Span, layer: int, trunk: Trunk) -> Diagnostic:
    return _error("WM210", f"trunk `{trunk.name}` has {trunk.layers} blocks; {layer} cannot have "
                  "run", span, "too deep", (trunk.span, f"{trunk.layers} blocks"),
                  help=f"`layer` is the number of blocks that have run, {trunk.layers} at most",
                  )  # fmt: skip


def targets_differ_in_depth(cross: ast.Declaration, targets: Sequence[Trunk]) -> Diagnostic:
    depths = ", ".join(f"`{trunk.name}` {trunk.layers}" for trunk in targets)
    return _error("WM210", f"the targets differ in depth: {depths}", cross.span, "",
                  help="write one cross for each target")  # fmt: skip


def cross_widths_differ(cross: ast.Declaration, sources: Sequence[TokenSource]) -> Diagnostic:
    return _sequence_of_widths(sources, f"write `embed` in cross `{cross.name.text}`")


def prefix_widths_differ(
    condition: ast.Declaration, sources: Sequence[TokenSource]
) -> Diagnostic:
    return _sequence_of_widths(
        sources, f"write a condition of its own for each source of `{condition.name.text}`"
    )


def _sequence_of_widths(sources: Sequence[TokenSource], help_line: str) -> Diagnostic:
    first = sources[0]
    other = next(source for source in sources if source.width != first.width)
    return _error("WM209", f"widths {first.width} and {other.width} are read as one sequence",
                  other.span, f"width {other.width}", (first.span, f"width {first.width}"),
                  help=help_line)  # fmt: skip


def too_many_levels(levels: ast.Attribute, most: int) -> Diagnostic:
    return _error("WM126", f"{most} blocks lead down", levels.span, "too many resolutions",
                  help=f"write {most} or less, or more layers")  # fmt: skip


def frames_do_not_share(
    declaration: ast.Declaration, frames: Sequence[int], trunk: Trunk, tokens: int
) -> Diagnostic:
    counts = " and ".join(dict.fromkeys(map(str, frames)))
    return _error("WM208", f"{tokens} tokens are not shared out over {counts} frames",
                  declaration.span, "frame by frame", (trunk.span, "the target"),
                  help="let each frame have as many tokens, all of one group")  # fmt: skip


def blocks_do_not_pair(cross: ast.Declaration, trunk: Trunk) -> Diagnostic:
    return _error("WM210", f"blocks of `{trunk.name}` have no blocks to be paired with", cross.span,
                  "block by block", (trunk.span, f"{trunk.layers} layers"),
                  help=f"read one trunk of {trunk.layers} layers, without `tap`")  # fmt: skip


def no_channels(declaration: ast.Declaration, count: int, group: TokenGroup) -> Diagnostic:
    shape = f"{group.frames} x {group.per_frame}"
    return _error("WM208", f"{count} source tokens do not lie along the {shape} of `{group.name}`",
                  declaration.span, "token by token", (group.span, f"{shape} tokens"),
                  help=f"name as many tokens, those of one frame ({group.per_frame}), or one for "
                  f"each frame ({group.frames})")  # fmt: skip


def tokens_do_not_align(declaration: ast.Declaration, source: int, target: int) -> Diagnostic:
    return _error("WM208", f"{source} source tokens do not spread over {target} target tokens",
                  declaration.span, "token by token",
                  help="use `adaln`, which pools the source, or equal counts")  # fmt: skip


# --- rates ---------------------------------------------------------------------------------------


def rate_not_positive(term: ast.Number) -> Diagnostic:
    return _error("WM301", f"a rate of {term.span.text} is impossible", term.span,
                  "must be more than 0", help="write how often a sample comes, as `20 Hz`",
                  )  # fmt: skip


def rate_needed(span: Span) -> Diagnostic:
    return _error("WM302", f"`{span.text}` needs the rate of the stream", span,
                  "seconds of an unknown rate",
                  help="declare the rate, `at 20 Hz`, or count frames or steps")  # fmt: skip


def seconds_not_whole(span: Span, seconds: Fraction, hertz: Fraction) -> Diagnostic:
    count = seconds * hertz
    near = sorted({Fraction(count.__floor__()), Fraction(count.__ceil__())} - {Fraction(0)})
    fits = " or ".join(f"`{_decimal(number / hertz)} s`" for number in near)
    return _error("WM303", f"{span.text} at {_decimal(hertz)} Hz is {_decimal(count)} samples",
                  span, "not a whole number of samples", help=f"take {fits}")  # fmt: skip


def stride_zero(span: Span) -> Diagnostic:
    return _error("WM126", "two samples cannot stand at the same time", span,
                  "at least one sample", help="leave `every` out for neighbouring samples",
                  )  # fmt: skip


def rates_unrelated(stream: Stream, other: Stream, nearest: Sequence[Fraction]) -> Diagnostic:
    here, there = _decimal(stream.rate_hz), _decimal(other.rate_hz)
    fits = " or ".join(f"{_decimal(rate)} Hz" for rate in nearest)
    return _error("WM304", f"{here} Hz of `{stream.name}` and {there} Hz of `{other.name}` have no "
                  "whole ratio", stream.places["rate"], f"{here} Hz",
                  (other.places["rate"], f"{there} Hz"),
                  help=f"the nearest workable rates are {fits}; or declare `resample hold` in "
                  f"`{stream.name}`")  # fmt: skip


def chunk_does_not_divide(action: Segment, frames: Segment, per_frame: int) -> Diagnostic:
    count = action.length
    fits = sorted({count - count % per_frame, count - count % per_frame + per_frame} - {0})
    return _error("WM305", f"{count} steps of `{action.stream}` do not divide over frames that "
                  f"come every {per_frame} steps", action.span, f"{count} steps",
                  (frames.span, f"one frame every {per_frame} steps"),
                  help=f"take {' or '.join(map(str, fits))} steps")  # fmt: skip


def horizons_differ(
    action: Segment, ahead: Fraction, frames: Segment, seen: Fraction
) -> Diagnostic:
    return _error("WM910", f"`{action.stream}` is predicted {_decimal(ahead)} s ahead, "
                  f"`{frames.stream}` {_decimal(seen)} s", action.span, f"{_decimal(ahead)} s",
                  (frames.span, f"{_decimal(seen)} s"),
                  help="make the horizons equal if both describe the same future")  # fmt: skip


def executes_too_much(attribute: ast.Attribute, count: int, action: Segment) -> Diagnostic:
    return _error("WM306", f"{count} steps are executed, {action.length} are predicted",
                  attribute.span, f"more than {action.length}",
                  (action.span, f"{action.length} steps"),
                  help=f"execute at most {action.length} steps")  # fmt: skip


def timeless(modality: str, attribute: ast.Attribute) -> Diagnostic:
    return _error("WM307", f"a stream of {modality} has no time axis", attribute.span,
                  "segments are for streams over time",
                  help="remove it; the whole stream is referred to by its name")  # fmt: skip


def no_samples(declaration: ast.Declaration) -> Diagnostic:
    return _error("WM122", f"stream `{declaration.name.text}` has no samples",
                  declaration.name.span, "needs `past`, `now` or `future`",
                  help="add `now 1 frame` for what is seen, `future 16 steps` for what is "
                  "predicted")  # fmt: skip


# --- codecs --------------------------------------------------------------------------------------


def codec_needed(
    span: Span, stream: Stream, fitting: Sequence[Codec], kinds: Sequence[str]
) -> Diagnostic:
    if fitting:
        help = f"write `{fitting[0].name}({span.text})`"
    else:
        help = f"declare one, as `codec NAME: {kinds[0]}`, and write `NAME({span.text})`"
    return _error("WM401", f"`{stream.name}` is {stream.modality}; it needs a codec to become "
                  "tokens", span, "bare", help=help,
                  notes=(f"codecs for {stream.modality}: {_and(kinds)}",))  # fmt: skip


def codec_cannot_read(
    span: Span, codec: Codec, stream: Stream, fitting: Sequence[str]
) -> Diagnostic:
    return _error("WM402", f"codec `{codec.name}` of kind {codec.kind} cannot read "
                  f"{stream.modality}", span, "", (codec.span, f"reads no {stream.modality}"),
                  (stream.span, f"this is {stream.modality}"),
                  help=f"codecs for {stream.modality}: {_and(fitting)}")  # fmt: skip


def pool_of_pool(span: Span, inner: Codec) -> Diagnostic:
    return _error("WM402", f"codec `{inner.name}` is a pool itself", span, "",
                  (inner.span, "a pool"), help="name the codec that is pooled")  # fmt: skip


def cannot_read_back(
    declaration: ast.Declaration, group: TokenGroup, codec: Codec | None
) -> Diagnostic:
    what = f"codec `{codec.name}`" if codec else "learned tokens"
    others = ((codec.span, "features without a way back"),) if codec else ()
    return _error("WM403", f"`{group.name}` cannot be generated: nothing turns tokens of {what} "
                  "back into data", declaration.span, "", (group.span, "tokens"), *others,
                  help="generate it through `patch`, `bins` or `linear`, or align it instead",
                  )  # fmt: skip


def objective_mismatch(
    declaration: ast.Declaration, objective: str, group: TokenGroup, codec: Codec
) -> Diagnostic:
    discrete = objective in ("autoregressive", "masked")
    wanted = "indices" if discrete else "numbers"
    found = "numbers" if discrete else "indices"
    way = "`bins` or `embed`" if discrete else "`linear` or `patch`"
    return _error("WM404", f"{objective} predicts {wanted}; `{group.name}` comes as {found}",
                  declaration.span, objective,
                  (group.span, f"through a {codec.kind} codec"),
                  help=f"read it through {way}, or change the objective")  # fmt: skip


def clip_leaks(codec: Codec, leak: Span, later: Segment, made: Align | Generate) -> Diagnostic:
    return _error("WM405", f"codec `{codec.name}` looks over the whole clip, so its past features "
                  f"already hold `{later.reference}`", leak, "read as an input",
                  (codec.span, "scope clip"),
                  (made.span, f"predicts `{later.reference}` from it"),
                  help="write `scope frame` or `scope prefix`", )  # fmt: skip


# --- couplings and masks -------------------------------------------------------------------------


def join_needs_two(clause: ast.Clause, names: Sequence[str]) -> Diagnostic:
    return _error("WM501", "a join needs two different trunks", clause.span,
                  f"names {_and(names)}", help="list each trunk once")  # fmt: skip


def joined_twice(name: str, first: ast.Declaration, second: ast.Declaration) -> Diagnostic:
    return _error("WM501", f"trunk `{name}` stands in two joins", second.span, "again here",
                  (first.span, "first here"), help="write one join of all of them")  # fmt: skip


def no_group(reference: ast.Reference, trunk: Trunk) -> Diagnostic:
    inside = [f"{trunk.name}.{group.name}" for group in trunk.groups]
    return _error("WM502", f"trunk `{trunk.name}` has no tokens "
                  f"`{'.'.join(reference.path[1:])}`", reference.span, "not in this trunk",
                  (trunk.span, "the trunk"), help=f"its tokens are {_and(inside)}")  # fmt: skip


def stands_nowhere(reference: ast.Reference) -> Diagnostic:
    return _error("WM502", f"`{reference.dotted}` stands in no trunk", reference.span,
                  "not among the tokens of any trunk",
                  help="put it into the `tokens` of a trunk")  # fmt: skip


def stands_in_several(reference: ast.Reference, names: Sequence[str]) -> Diagnostic:
    options = [f"{name}.{reference.dotted}" for name in names]
    return _error("WM502", f"`{reference.dotted}` stands in several trunks", reference.span,
                  "which one?", help=f"write {_and(options)}")  # fmt: skip


def rows_across_spaces(
    subject: ast.Expression,
    read: Sequence[TokenGroup],
    other: ast.Expression,
    seen: Sequence[TokenGroup],
) -> Diagnostic:
    here, there = ({group.trunk for group in found} for found in (read, seen))
    return _error("WM503", f"`{subject.span.text}` cannot see `{other.span.text}`: {_and(here)} "
                  f"and {_and(there)} do not attend together", other.span, f"in {_and(there)}",
                  (subject.span, f"in {_and(here)}"),
                  help="join the trunks, or couple them by `cross`")  # fmt: skip


def group_without_row(group: TokenGroup, attend: Attend) -> Diagnostic:
    return _error("WM504", f"the attend says nothing about `{group.name}` of trunk "
                  f"`{group.trunk}`", attend.span, f"no row `{group.name} sees ...`",
                  (group.span, "its tokens"),
                  help=f"add a row, as `{group.name} sees {group.name}` or "
                  f"`{group.name} sees nothing`")  # fmt: skip


def rows_contradict(group: TokenGroup, silent: Rule, other: Rule) -> Diagnostic:
    return _error("WM505", f"two rows about `{group.name}` contradict each other", other.span,
                  "sees something", (silent.span, "sees nothing"),
                  help="remove one of them")  # fmt: skip


def reads_itself(declaration: ast.Declaration, trunk: str) -> Diagnostic:
    return _error("WM506", f"{_name(declaration)} closes a cycle: `{trunk}` reads itself",
                  declaration.span, "source and target are one trunk",
                  help="inside a trunk tokens see each other; say who sees whom in an attend",
                  )  # fmt: skip


def cycle(edge: tuple[str, str, str, Span], path: Sequence[tuple]) -> Diagnostic:
    source, target, what, span = edge
    return _error("WM506", f"{what} closes a cycle: `{target}` would be needed before itself", span,
                  f"`{source}` -> `{target}`",
                  *((other[3], f"`{other[0]}` -> `{other[1]}`") for other in path),
                  help="join the trunks if they read each other, or remove one of the edges",
                  )  # fmt: skip


def no_modulation(
    declaration: ast.Declaration, mechanism: str, target: Trunk | Codec
) -> Diagnostic:
    return _error("WM507", f"{mechanism} cannot set `{target.name}` of kind {target.kind}",
                  declaration.clause("by").span, mechanism, (target.span, "the target"),
                  help="adaln modulates a `dit`, film a trunk or a codec of kind `conv`; `prefix` "
                  "fits every trunk")  # fmt: skip


def hand_needs_future(span: Span, found: Sequence[Segment]) -> Diagnostic:
    return _error("WM508", "a hand-over passes on one prediction", span,
                  f"names {_and(segment.reference for segment in found)}",
                  help="name the future segment, as `corner.future`")  # fmt: skip


def nobody_receives(declaration: ast.Declaration, segment: str, trunk: Trunk) -> Diagnostic:
    return _error("WM508", f"`{segment}` is handed to `{trunk.name}`, which has no tokens for it",
                  declaration.span, "", (trunk.span, "the receiver"),
                  help=f"add `{segment}` to the tokens of `{trunk.name}`")  # fmt: skip


def trunk_fruitless(declaration: ast.Declaration) -> Diagnostic:
    name = declaration.name
    return _error("WM509", f"nothing comes out of trunk `{name.text}`", name.span,
                  "no loss, align, join, cross or condition uses it",
                  help="generate or align its tokens, couple it, or remove it")  # fmt: skip


def truth_read(source: TokenSource, what: str, maker: Generate) -> Diagnostic:
    name = source.segment.reference
    return _error("WM510", f"{what} reads the true `{name}`, which is not known when it is asked",
                  source.span, "the true future", (maker.span, "generated here"),
                  help="read the trunk that predicts it, or hand the prediction over")  # fmt: skip


def truth_stands(group: TokenGroup, maker: Generate) -> Diagnostic:
    return _error("WM510", f"trunk `{group.trunk}` reads the true `{group.name}`, which is not "
                  "known when it is asked", group.span, "the true future",
                  (maker.span, "generated here"),
                  help=f"hand it over: `hand NAME: {group.name} -> {group.trunk}`")  # fmt: skip


def never_reaches(condition: Span, name: str, target: str) -> Diagnostic:
    """For the plan's closure: a condition or observed stream that influences nothing sought."""
    return _error("WM511", f"`{name}` never reaches {target}", condition,
                  "no path leads from here",
                  help=f"let {target} see it in the attend, or remove it")  # fmt: skip


def assertion_fails(
    span: Span, message: str, path: Sequence[tuple[Span | None, str]]
) -> Diagnostic:
    """For the plan's closure: `path` are the steps (line, words) that break the assertion."""
    steps = tuple((where, text) for where, text in path if where is not None)
    return _error("WM512", message, span, "does not hold", *steps,
                  notes=tuple(text for where, text in path if where is None),
                  help="remove one step of the path, or the assertion")  # fmt: skip


# --- queries -------------------------------------------------------------------------------------


def nothing_generates(
    declaration: ast.Declaration, segment: Segment, generated: Iterable[str]
) -> Diagnostic:
    names = list(generated)
    return _error("WM601", f"{_name(declaration)} seeks `{segment.reference}`, which nothing "
                  "generates", declaration.clause("sought").span, "sought",
                  (segment.span, "declared here"),
                  help=f"what is generated: {_and(names)}" if names
                  else f"add `generate NAME: {segment.reference} by flow`")  # fmt: skip


def seeks_observed(span: Span, segment: Segment, stream: Stream) -> Diagnostic:
    future = stream.segment("future")
    help = f"seek `{future.reference}`" if future else f"give `{stream.name}` a `future`"
    return _error("WM602", f"`{segment.reference}` is observed; it cannot be sought", span,
                  "sought", (segment.span, "known when the query is asked"), help=help)  # fmt: skip


def sought_and_given(declaration: ast.Declaration, name: str) -> Diagnostic:
    return _error("WM602", f"{_name(declaration)} both seeks and knows `{name}`", declaration.span,
                  "", help=f"remove `{name}` from one side of `|`")  # fmt: skip


def not_answerable(
    span: Span, name: str, because: str, blamed: Span | None, help: str
) -> Diagnostic:
    """For the plan: a declared query that the graph cannot answer, and the line that forbids it."""
    others = ((blamed, "this forbids it"),) if blamed and blamed != span else ()
    return _error("WM603", f"query `{name}` cannot be answered: {because}", span, "asked here",
                  *others, help=help)  # fmt: skip


def sampler_mismatch(
    attribute: ast.Attribute, name: str, generate: Generate, fitting: Sequence[str]
) -> Diagnostic:
    help = f"use {_or(fitting)}" if fitting else "leave `sampler` out"
    return _error("WM604", f"sampler {name} does not fit the objective {generate.objective}",
                  attribute.span, name, (generate.span, generate.objective), help=help)  # fmt: skip


def cannot_pin(items: Sequence[ast.Item], segment: Segment, named: bool) -> Diagnostic:
    why = "it is sought or given" if named else "no noise is trained on it"
    return _error("WM605", f"`{segment.reference}` cannot be pinned at noise: {why}",
                  items[0].span.to(items[-1].span), "",
                  help="pin segments that are generated by flow or diffusion and not asked for",
                  )  # fmt: skip


def steps_malformed(item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` is no number of steps", item.span,
                  help="write one number for all, or `camera 25, action 50`")  # fmt: skip


def no_steps(item: ast.Item, name: str, stepped: Sequence[str]) -> Diagnostic:
    help = f"steps are for {_and(stepped)}" if stepped else "leave `steps` out"
    return _error("WM606", f"`{name}` is not sampled in steps", item.span, "", help=help,
                  )  # fmt: skip


def guidance_malformed(item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` is no guidance scale", item.span, "",
                  help="write `cfg 5`, or `cfg camera 5, action 2`")  # fmt: skip


def not_guided(item: ast.Item, name: str, denoised: Sequence[str]) -> Diagnostic:
    help = f"guidance is for {_and(denoised)}" if denoised else "leave `cfg` out"
    return _error("WM606", f"`{name}` is not denoised, so nothing can guide it", item.span, "",
                  help=help)  # fmt: skip


def no_density(span: Span, name: str, because: str) -> Diagnostic:
    return _error("WM812", f"answers to {name} have no log-density: {because}", span, "",
                  help="`wmdsl plan --query` says of every query which log-density it has",
                  )  # fmt: skip


def terminal_malformed(item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` is no noise level", item.span, "",
                  help="write one level for all, or `terminal camera 0.8`")  # fmt: skip


def not_stopped(item: ast.Item, name: str, denoised: Sequence[str]) -> Diagnostic:
    help = f"a terminal level is for {_and(denoised)}" if denoised else "leave `terminal` out"
    return _error("WM606", f"`{name}` is not denoised, so that it has no terminal level",
                  item.span, "", help=help)  # fmt: skip


def never_begun(item: ast.Item, name: str) -> Diagnostic:
    return _error("WM606", f"`{name}` stops at pure noise, where sampling begins", item.span, "",
                  help="write a level below 1, or pin the segment: `pinned`")  # fmt: skip


def nothing_left_out(attribute: ast.Attribute) -> Diagnostic:
    return _error("WM606", "guidance has nothing to leave out: no text is given", attribute.span,
                  "", help="give a text, or a stream with a `dropout`")  # fmt: skip


def dropout_of_generated(generate: ast.Declaration, stream: Stream) -> Diagnostic:
    return _error("WM708", f"`{stream.name}` is generated, so that it cannot be dropped",
                  stream.places.get("dropout", stream.span), "hides it from a share of the samples",
                  (generate.name.span, "has a loss on it"),
                  help=f"remove the `dropout` of `{stream.name}`")  # fmt: skip


def nothing_to_execute(attribute: ast.Attribute) -> Diagnostic:
    return _error("WM606", "no action is sought, so nothing can be executed", attribute.span, "",
                  help=f"remove `{attribute.name.text}`")  # fmt: skip


def nothing_to_average(attribute: ast.Attribute, action: Segment) -> Diagnostic:
    return _error("WM606", "every chunk is executed whole, so no two of them speak of one step",
                  attribute.span, "", (action.span, f"{action.length} steps"),
                  help="`execute` fewer steps than are predicted, or remove `ensemble`",
                  )  # fmt: skip


# --- training ------------------------------------------------------------------------------------


def loss_on_observed(span: Span, segment: Segment, stream: Stream) -> Diagnostic:
    future = stream.segment("future")
    help = (f"generate `{future.reference}`" if future
            else f"give `{stream.name}` a `future`, as `future 4 frames`")  # fmt: skip
    return _error("WM701", f"`{segment.reference}` is observed; a loss on it teaches nothing", span,
                  "generated here", (segment.span, "observed"), help=help,
                  fixes=_replace(span, future and future.reference))  # fmt: skip


def time_of_observed(span: Span, segment: Segment) -> Diagnostic:
    return _error("WM402", f"`{segment.reference}` is observed, it has no noise level", span,
                  "read here", (segment.span, "observed"),
                  help="read the time of a segment that is generated")  # fmt: skip


def weightless(item: ast.Item) -> Diagnostic:
    return _error("WM912", "a loss of weight 0 is never felt", item.span, "",
                  help="remove the loss, or give it a weight")  # fmt: skip


def generated_twice(
    segment: Segment, first: ast.Declaration, second: ast.Declaration
) -> Diagnostic:
    return _error("WM702", f"`{first.name.text}` and `{second.name.text}` both generate "
                  f"`{segment.reference}`", second.span, "again here", (first.span, "first here"),
                  help="keep one of them")  # fmt: skip


def nothing_predicts(span: Span, segment: Segment, handed: Sequence[TokenGroup]) -> Diagnostic:
    others = tuple((group.span, "handed over, not predicted") for group in handed)
    return _error("WM703", f"no trunk predicts `{segment.reference}`", span, "has no tokens",
                  *others, help=f"put `{segment.reference}` into the tokens of a trunk",
                  )  # fmt: skip


def predicted_in_several(span: Span, segment: Segment, found: Sequence[TokenGroup]) -> Diagnostic:
    return _error("WM704", f"`{segment.reference}` stands in "
                  f"{_and(group.trunk for group in found)}; which one predicts it?", span, "",
                  *((group.span, f"tokens of `{group.trunk}`") for group in found),
                  help=f"hand the prediction over: `hand NAME: {segment.reference} -> "
                  f"{found[-1].trunk}`")  # fmt: skip


def future_without_loss(group: TokenGroup) -> Diagnostic:
    return _error("WM705", f"`{group.name}` has no loss, and no query gives it", group.span,
                  "tokens of the future", (group.segment.span, "declared here"),
                  help=f"add `generate NAME: {group.name} by flow`, or give it in a query",
                  )  # fmt: skip


def tokens_alike(declaration: ast.Declaration, group: TokenGroup, trunk: Trunk) -> Diagnostic:
    return _error("WM706", f"the {group.count} tokens of `{group.name}` cannot be told apart",
                  declaration.span, "each would get the same answer", (group.span, "tokens"),
                  (trunk.span, "positions none"),
                  help="write `positions learned` or a rotary kind")  # fmt: skip


def not_additive(
    declaration: ast.Declaration, group: TokenGroup, codec: Codec | None
) -> Diagnostic:
    others = ((codec.span, "tokens that are no samples"),) if codec else ()
    return _error("WM404", f"a change of `{group.name}` cannot be added to the sample before it",
                  declaration.attribute("predict").span, "adds tokens", (group.span, "tokens"),
                  *others, help="generate it through `patch` or `linear`, or predict `data`",
                  )  # fmt: skip


def nothing_before(declaration: ast.Declaration, group: TokenGroup) -> Diagnostic:
    stream = group.segment.stream
    return _error("WM710", f"`{group.name}` begins its stream: there is no sample to change from",
                  declaration.attribute("predict").span, "the change of what was before",
                  (group.segment.span, "declared here"),
                  help=f"give `{stream}` a `now`, or predict `data`")  # fmt: skip


def before_unseen(
    declaration: ast.Declaration, group: TokenGroup, before: Segment
) -> Diagnostic:
    return _error("WM710", f"`{group.name}` does not see `{before.reference}`, from which it is to "
                  "change", declaration.attribute("predict").span, "is added to it",
                  (group.span, "tokens"),
                  help=f"let all of `{group.name}` see `{before.reference}` in the same attention "
                  "space, or predict `data`")  # fmt: skip


def guard_needed(declaration: ast.Declaration, guards: Iterable[str]) -> Diagnostic:
    return _error("WM707", f"{_name(declaration)} lets the gradient into its target; both sides "
                  "may collapse to a constant", declaration.attribute("gradient").span,
                  "no guard", help=f"add `guard` {_or(guards)}")  # fmt: skip


def gradient_into_teacher(declaration: ast.Declaration, teacher: str) -> Diagnostic:
    return _error("WM708", f"`gradient` and `teacher {teacher}` contradict each other",
                  declaration.attribute("gradient").span, "trains the target",
                  (declaration.attribute("teacher").span, "its weights are not trained"),
                  help="remove `gradient`, or write `teacher same`")  # fmt: skip


def trained_and_frozen(declaration: ast.Declaration, name: str) -> Diagnostic:
    return _error("WM708", f"stage `{declaration.name.text}` trains and freezes `{name}`",
                  declaration.attribute("train").span, "trains it",
                  (declaration.attribute("freeze").span, "keeps its weights"),
                  help=f"take `{name}` out of one of the two")  # fmt: skip


def stage_without_loss(declaration: ast.Declaration) -> Diagnostic:
    name = declaration.name.text
    return _error("WM708", f"no loss is in force in stage `{name}`", declaration.name.span,
                  "nothing to train by",
                  help=f"name a loss there, or add `{name}` to the `stage` of one")  # fmt: skip


def not_causal(declaration: ast.Declaration, group: TokenGroup, rule: Rule | None) -> Diagnostic:
    others = ((rule.span, "sees what it must predict"),) if rule else ()
    return _error("WM709", f"`{group.name}` is generated token by token, but sees its own later "
                  "tokens", declaration.span, "autoregressive", (group.span, "tokens"), *others,
                  help="use a `decoder` without attend, or a row with `where k <= q`")  # fmt: skip


# --- planners ------------------------------------------------------------------------------------


def empty_range(declaration: ast.Declaration, low: Fraction, high: Fraction) -> Diagnostic:
    attribute = declaration.attribute("low") or declaration.attribute("high")
    return _error("WM126", f"no action lies between {float(low):g} and {float(high):g}",
                  attribute.span, "low must be below high",
                  help="exchange `low` and `high`")  # fmt: skip


def too_many_elites(declaration: ast.Declaration, elites: int, samples: int) -> Diagnostic:
    attribute = declaration.attribute("elites") or declaration.attribute("samples")
    return _error("WM126", f"{elites} elites cannot be chosen from {samples} samples",
                  attribute.span, f"more than {samples}",
                  help="take fewer elites, or more samples")  # fmt: skip


# --- layouts and symbols -------------------------------------------------------------------------


def predicts_absent(declaration: ast.Declaration, segment: Segment) -> Diagnostic:
    return _error("WM703", f"{_name(declaration)} predicts `{segment.reference}`, which does not "
                  "stand in it", declaration.attribute("predict").span, "",
                  (declaration.attribute("tokens").span, "its tokens"),
                  help=f"add `{segment.reference}` to the tokens of the layout")  # fmt: skip


def which_trunk(declaration: ast.Declaration, trunks: Iterable[str]) -> Diagnostic:
    return _error("WM122", f"{_name(declaration)} does not say its `trunk`", declaration.name.span,
                  "which one is laid out?", help=f"there are: {_and(trunks)}")  # fmt: skip


def draw_malformed(item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` is no number to draw", item.span,
                  help="write `chunk 2 within 1..4`: the name, the value at inference, the range",
                  )  # fmt: skip


def renoise_malformed(item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` does not say what is noised again", item.span,
                  help="write `clean.camera 0.5 within 0..0.5`: the groups of a copy, the share of "
                  "samples, the range of times; all from 0 to 1")  # fmt: skip


def renoises_nothing(item: ast.Item, name: str, copies: Sequence[str]) -> Diagnostic:
    return _error("WM502", f"`{name}` is no copy of this layout, nor a group of one", item.span,
                  help=f"the copies are {_and(copies)}" if copies else "declare `copies`",
                  )  # fmt: skip


def source_malformed(item: ast.Item) -> Diagnostic:
    return _error("WM124", f"`{item.span.text}` is no weight", item.span,
                  help="write a number, or `1 on human_video` for the samples of one data source",
                  )  # fmt: skip


def wrong_arity(item: ast.Item, predicate: ast.Declaration, wanted: int, given: int) -> Diagnostic:
    return _error("WM201", f"`{predicate.name.text}` is about {wanted} objects, not {given}",
                  item.span, "", (predicate.span, "the predicate"),
                  help=f"give it {wanted} arguments")  # fmt: skip


def wrong_object(
    argument: ast.Expression, found: str, wanted: str, predicate: ast.Declaration
) -> Diagnostic:
    return _error("WM128", f"`{argument.span.text}` is {_a(found)}; `{predicate.name.text}` is "
                  f"about {_a(wanted)} here", argument.span, found,
                  (predicate.span, "the predicate"), help=f"give it {_a(wanted)}")  # fmt: skip


# --- against a data set --------------------------------------------------------------------------


def not_recorded(
    stream: Stream, key: str, root: object, fitting: Sequence[str]
) -> Diagnostic:
    near = did_you_mean(key, fitting)
    keys = [f'key "{key}"' for key in ([near] if near else fitting)]
    help = f"write {_or(keys)}" if keys else f"the data set holds no {stream.modality}"
    return _error("WM140", f"the data set has no `{key}` for stream `{stream.name}`",
                  stream.places["key"], "not recorded", notes=(f"the data set is {root}",),
                  help=help)  # fmt: skip


def recorded_otherwise(stream: Stream, key: str, is_camera: bool) -> Diagnostic:
    found = "a camera" if is_camera else "a column of numbers"
    return _error("WM220", f"`{key}` is {found}, stream `{stream.name}` is "
                  f"{stream.modality}", stream.places["type"], stream.modality,
                  (stream.places["key"], f"names {found}"),
                  help="name another key, or change the type of the stream")  # fmt: skip


def shape_recorded(stream: Stream, key: str, shape: tuple[int, ...]) -> Diagnostic:
    return _error("WM220", f"stream `{stream.name}` has the shape {list(stream.shape)}, the data "
                  f"set's `{key}` {list(shape)}", stream.places["type"],
                  f"{list(stream.shape)}", (stream.places["key"], f"{list(shape)} in the data set"),
                  help=f"write `{stream.modality}[{', '.join(map(str, shape))}]`, or name another "
                  "key")  # fmt: skip


def recorded_slower(stream: Stream, key: str, recorded: Fraction) -> Diagnostic:
    return _error("WM320", f"stream `{stream.name}` wants {_decimal(stream.rate_hz)} Hz, "
                  f"`{key}` was recorded at {_decimal(recorded)} Hz",
                  stream.places["rate"], "faster than the recording",
                  help=f"write `at {_decimal(recorded)} Hz`")  # fmt: skip


def stride_not_whole(stream: Stream, rows: Fraction, recorded: Fraction) -> Diagnostic:
    wanted = stream.rate_hz
    rates = [rows / n for n in range(1, 257)]
    fits = [rate for rate in rates if (recorded / rate).denominator == 1]
    near = sorted(sorted(fits, key=lambda rate: abs(rate - wanted))[:2])
    return _error("WM321", f"{_decimal(wanted)} Hz of stream `{stream.name}` is no whole part of "
                  f"the data set's {_decimal(rows)} Hz", stream.places["rate"],
                  f"a sample every {_decimal(rows / wanted)} rows",
                  help=f"take {' or '.join(f'{_decimal(rate)} Hz' for rate in near)}")  # fmt: skip
