"""Layouts, copies and symbols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wmdsl.check.errors.wording import an, error, listed, titled
from wmdsl.check.model import Segment
from wmdsl.diagnostics import Diagnostic
from wmdsl.syntax import ast


def predicts_absent(declaration: ast.Declaration, segment: Segment) -> Diagnostic:
    return error("WM703", f"{titled(declaration)} predicts `{segment.reference}`, which does not "
                 "stand in it", declaration.attribute("predict").span, "",
                 (declaration.attribute("tokens").span, "its tokens"),
                 help=f"add `{segment.reference}` to the tokens of the layout")  # fmt: skip


def which_trunk(declaration: ast.Declaration, trunks: Iterable[str]) -> Diagnostic:
    return error("WM122", f"{titled(declaration)} does not say its `trunk`", declaration.name.span,
                 "which one is laid out?", help=f"there are: {listed(trunks)}")  # fmt: skip


def draw_malformed(item: ast.Item) -> Diagnostic:
    return error("WM124", f"`{item.span.text}` is no number to draw", item.span,
                 help="write `chunk 2 within 1..4`: the name, the value at inference, the range",
                 )  # fmt: skip


def renoise_malformed(item: ast.Item) -> Diagnostic:
    return error("WM124", f"`{item.span.text}` does not say what is noised again", item.span,
                 help="write `clean.camera 0.5 within 0..0.5`: the groups of a copy, the share of "
                 "samples, the range of times; all from 0 to 1")  # fmt: skip


def renoises_nothing(item: ast.Item, name: str, copies: Sequence[str]) -> Diagnostic:
    return error("WM502", f"`{name}` is no copy of this layout, nor a group of one", item.span,
                 help=f"the copies are {listed(copies)}" if copies else "declare `copies`",
                 )  # fmt: skip


def source_malformed(item: ast.Item) -> Diagnostic:
    return error("WM124", f"`{item.span.text}` is no weight", item.span,
                 help="write a number, or `1 on human_video` for the samples of one data source",
                 )  # fmt: skip


def wrong_arity(item: ast.Item, predicate: ast.Declaration, wanted: int, given: int) -> Diagnostic:
    return error("WM201", f"`{predicate.name.text}` is about {wanted} objects, not {given}",
                 item.span, "", (predicate.span, "the predicate"),
                 help=f"give it {wanted} arguments")  # fmt: skip


def wrong_object(
    argument: ast.Expression, found: str, wanted: str, predicate: ast.Declaration
) -> Diagnostic:
    return error("WM128", f"`{argument.span.text}` is {an(found)}; `{predicate.name.text}` is "
                 f"about {an(wanted)} here", argument.span, found,
                 (predicate.span, "the predicate"), help=f"give it {an(wanted)}")  # fmt: skip
