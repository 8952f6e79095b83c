"""Names that are unknown, shared, or that nobody reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from wmdsl.check.errors.wording import an, choices, error, listed, replacing
from wmdsl.check.model import Segment, Stream
from wmdsl.diagnostics import Diagnostic, did_you_mean
from wmdsl.source import Span
from wmdsl.syntax import ast

Declared = Mapping[str, object]


def unknown_stream(
    reference: ast.Reference, known: Declared, other: ast.Declaration | None
) -> Diagnostic:
    name = reference.path[0]
    head = Span(reference.span.source, reference.span.start, reference.span.start + len(name))
    if other is not None:
        return error("WM128", f"`{name}` is {an(other.form)}, not a stream", reference.span,
                     "a stream stands here", (other.name.span, "declared here"),
                     help=choices(name, known, "declare a stream"))  # fmt: skip
    return error(
        "WM120", f"there is no stream `{name}`", reference.span, "unknown",
        help=choices(name, known, "declare it: `stream NAME: video[3, 64, 64] at 20 Hz { ... }`"),
        fixes=replacing(head, did_you_mean(name, known)),
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
        help = f"give `{stream.name}` one, as `{part} 1 frame`, or use {listed(have)}"
    else:
        help = f"segments of `{stream.name}`: {listed(have)}"
    return error("WM120", f"stream `{stream.name}` has no segment `{part}`", reference.span,
                 "unknown", (stream.span, "the stream"), help=help,
                 fixes=replacing(reference.span, near and f"{stream.name}.{near}"))  # fmt: skip


def bad_slice(reference: ast.Reference, found: Sequence[Segment]) -> Diagnostic:
    last = sum(len(segment.offsets) for segment in found) - 1
    name = ".".join(reference.path)
    return error("WM126", f"`{reference.span.text}` names samples that are not there",
                 reference.span, f"`{name}` has 0..{last}",
                 help="samples are counted from 0")  # fmt: skip


def slice_by_name(reference: ast.Reference) -> Diagnostic:
    return error("WM124", f"`{reference.span.text}` is no slice", reference.span, "",
                 help="samples are named by numbers, as `clip[0..2]`")  # fmt: skip


def segment_wanted(expression: ast.Expression) -> Diagnostic:
    return error("WM128", f"`{expression.span.text}` is no stream", expression.span,
                 "a stream or a segment stands here",
                 help="write a name, as `corner.future`")  # fmt: skip


def name_wanted(expression: ast.Expression, what: str) -> Diagnostic:
    return error("WM128", f"`{expression.span.text}` is no name", expression.span,
                 f"{what} stands here", help="write the name of a declaration")  # fmt: skip


def one_name_wanted(item: ast.Item) -> Diagnostic:
    return error("WM124", f"`{item.span.text}` is more than one thing", item.span,
                 "one name stands here", help="separate the elements of a list by commas",
                 )  # fmt: skip


def one_argument(call: ast.Call) -> Diagnostic:
    return error("WM124", f"`{call.span.text}` must name one thing to read", call.span,
                 help=f"write `{call.function.dotted}(corner.now)`")  # fmt: skip


def one_target(clause: ast.Clause) -> Diagnostic:
    return error("WM124", f"one name stands here, {len(clause.items)} are given", clause.span,
                 "too many", help="write one declaration for each")  # fmt: skip


def one_segment(span: Span, found: Sequence[Segment]) -> Diagnostic:
    names = [segment.reference for segment in found]
    return error("WM128", f"one segment stands here, this names {listed(names)}", span,
                 help=f"write the one that is meant, as `{names[-1]}`")  # fmt: skip


def listed_twice(name: str, first: Span, second: Span) -> Diagnostic:
    return error("WM130", f"`{name}` is listed twice", second, "again here", (first, "first here"),
                 help="remove one of them")  # fmt: skip


def unknown_trunk(
    reference: ast.Reference, what: str, known: Declared, other: ast.Declaration | None
) -> Diagnostic:
    name = reference.path[0]
    if other is not None:
        return error("WM128", f"`{name}` is {an(other.form)}; {what} stands here", reference.span,
                     "wrong kind of thing", (other.name.span, "declared here"),
                     help=choices(name, known, "declare a trunk"))  # fmt: skip
    return error("WM120", f"there is no trunk `{name}`", reference.span, f"{what} stands here",
                 help=choices(name, known, "declare it: `trunk NAME: dit { ... }`"),
                 fixes=replacing(reference.span, did_you_mean(name, known)))  # fmt: skip


def unknown_codec(
    reference: ast.Reference, known: Declared, other: ast.Declaration | None
) -> Diagnostic:
    name = reference.dotted
    if other is not None:
        return error("WM128", f"`{name}` is {an(other.form)}, not a codec", reference.span,
                     "a codec stands here", (other.name.span, "declared here"),
                     help=choices(name, known, "declare a codec"))  # fmt: skip
    return error("WM120", f"there is no codec `{name}`", reference.span, "unknown",
                 help=choices(name, known, f"declare it: `codec {name}: conv {{ ... }}`"),
                 fixes=replacing(reference.span, did_you_mean(name, known)))  # fmt: skip


def unknown_space(declaration: ast.Declaration, known: Iterable[str]) -> Diagnostic:
    name, names = declaration.name, list(known)
    return error("WM120", f"`{name.text}` is no attention space", name.span,
                 "a join, a trunk outside of joins, or a layout stands here",
                 help=choices(name.text, names, "leave the name out"),
                 fixes=replacing(name.span, did_you_mean(name.text, names)))  # fmt: skip


def unknown_place(name: ast.Name, known: Iterable[str]) -> Diagnostic:
    names = list(known)
    return error("WM120", f"there is no query, stage or layout `{name.text}`", name.span,
                 "unknown", help=choices(name.text, names, "leave `in` out"))  # fmt: skip


def unknown_part(name: ast.Expression, what: str, known: Iterable[str]) -> Diagnostic:
    names, text = list(known), name.span.text
    return error("WM120", f"there is no {what} `{text}`", name.span, "unknown",
                 help=choices(text, names, f"declare a {what}"),
                 fixes=replacing(name.span, did_you_mean(text, names)))  # fmt: skip


def stream_unread(declaration: ast.Declaration) -> Diagnostic:
    name = declaration.name
    return error("WM131", f"nobody reads stream `{name.text}`", name.span, "declared, never read",
                 help="put it into the tokens of a trunk, or remove it: "
                 f"`drop stream {name.text}`")  # fmt: skip


def segment_unread(segment: Segment) -> Diagnostic:
    return error("WM131", f"nobody reads `{segment.reference}`", segment.span,
                 "declared, never read",
                 help="put it into the tokens of a trunk, or remove this line")  # fmt: skip


def codec_unused(declaration: ast.Declaration) -> Diagnostic:
    name = declaration.name
    return error("WM132", f"nothing goes through codec `{name.text}`", name.span,
                 "its parameters would be reached by no forward pass",
                 help=f"read a stream through it, or remove it: `drop codec {name.text}`",
                 )  # fmt: skip


def codec_inherited(declaration: ast.Declaration, model: Span) -> Diagnostic:
    name = declaration.name
    return error("WM911", f"codec `{name.text}` of a base model is not used", name.span,
                 "left out of the model", (model, "by this model"),
                 help=f"write `drop codec {name.text}` to say so")  # fmt: skip


def extern_unused(declaration: ast.Declaration) -> Diagnostic:
    name = declaration.name
    return error("WM132", f"nothing calls extern `{name.text}`", name.span, "never called",
                 help=f"use it, or remove it: `drop extern {name.text}`")  # fmt: skip


def name_shared(first: ast.Declaration, second: ast.Declaration) -> Diagnostic:
    return error("WM133", f"`{second.name.text}` names a {first.form} and a {second.form}",
                 second.name.span, f"the {second.form}",
                 (first.name.span, f"the {first.form}"), help="rename one of them")  # fmt: skip
