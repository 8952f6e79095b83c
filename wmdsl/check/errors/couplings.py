"""Couplings, masks and the flow of information."""

from __future__ import annotations

from collections.abc import Sequence

from wmdsl.check.errors.wording import error, listed, titled
from wmdsl.check.model import Attend, Codec, Generate, Rule, Segment, TokenGroup, TokenSource, Trunk
from wmdsl.diagnostics import Diagnostic
from wmdsl.source import Span
from wmdsl.syntax import ast


def join_needs_two(clause: ast.Clause, names: Sequence[str]) -> Diagnostic:
    return error("WM501", "a join needs two different trunks", clause.span,
                 f"names {listed(names)}", help="list each trunk once")  # fmt: skip


def joined_twice(name: str, first: ast.Declaration, second: ast.Declaration) -> Diagnostic:
    return error("WM501", f"trunk `{name}` stands in two joins", second.span, "again here",
                 (first.span, "first here"), help="write one join of all of them")  # fmt: skip


def no_group(reference: ast.Reference, trunk: Trunk) -> Diagnostic:
    inside = [f"{trunk.name}.{group.name}" for group in trunk.groups]
    return error("WM502", f"trunk `{trunk.name}` has no tokens "
                 f"`{'.'.join(reference.path[1:])}`", reference.span, "not in this trunk",
                 (trunk.span, "the trunk"), help=f"its tokens are {listed(inside)}")  # fmt: skip


def stands_nowhere(reference: ast.Reference) -> Diagnostic:
    return error("WM502", f"`{reference.dotted}` stands in no trunk", reference.span,
                 "not among the tokens of any trunk",
                 help="put it into the `tokens` of a trunk")  # fmt: skip


def stands_in_several(reference: ast.Reference, names: Sequence[str]) -> Diagnostic:
    options = [f"{name}.{reference.dotted}" for name in names]
    return error("WM502", f"`{reference.dotted}` stands in several trunks", reference.span,
                 "which one?", help=f"write {listed(options)}")  # fmt: skip


def rows_across_spaces(
    subject: ast.Expression,
    read: Sequence[TokenGroup],
    other: ast.Expression,
    seen: Sequence[TokenGroup],
) -> Diagnostic:
    here, there = ({group.trunk for group in found} for found in (read, seen))
    return error("WM503", f"`{subject.span.text}` cannot see `{other.span.text}`: {listed(here)} "
                 f"and {listed(there)} do not attend together", other.span, f"in {listed(there)}",
                 (subject.span, f"in {listed(here)}"),
                 help="join the trunks, or couple them by `cross`")  # fmt: skip


def group_without_row(group: TokenGroup, attend: Attend) -> Diagnostic:
    return error("WM504", f"the attend says nothing about `{group.name}` of trunk "
                 f"`{group.trunk}`", attend.span, f"no row `{group.name} sees ...`",
                 (group.span, "its tokens"),
                 help=f"add a row, as `{group.name} sees {group.name}` or "
                 f"`{group.name} sees nothing`")  # fmt: skip


def rows_contradict(group: TokenGroup, silent: Rule, other: Rule) -> Diagnostic:
    return error("WM505", f"two rows about `{group.name}` contradict each other", other.span,
                 "sees something", (silent.span, "sees nothing"),
                 help="remove one of them")  # fmt: skip


def reads_itself(declaration: ast.Declaration, trunk: str) -> Diagnostic:
    return error("WM506", f"{titled(declaration)} closes a cycle: `{trunk}` reads itself",
                 declaration.span, "source and target are one trunk",
                 help="inside a trunk tokens see each other; say who sees whom in an attend",
                 )  # fmt: skip


def cycle(edge: tuple[str, str, str, Span], path: Sequence[tuple]) -> Diagnostic:
    source, target, what, span = edge
    return error("WM506", f"{what} closes a cycle: `{target}` would be needed before itself", span,
                 f"`{source}` -> `{target}`",
                 *((other[3], f"`{other[0]}` -> `{other[1]}`") for other in path),
                 help="join the trunks if they read each other, or remove one of the edges",
                 )  # fmt: skip


def no_modulation(
    declaration: ast.Declaration, mechanism: str, target: Trunk | Codec
) -> Diagnostic:
    return error("WM507", f"{mechanism} cannot set `{target.name}` of kind {target.kind}",
                 declaration.clause("by").span, mechanism, (target.span, "the target"),
                 help="adaln modulates a `dit`, film a trunk or a codec of kind `conv`; `prefix` "
                 "fits every trunk")  # fmt: skip


def hand_needs_future(span: Span, found: Sequence[Segment]) -> Diagnostic:
    return error("WM508", "a hand-over passes on one prediction", span,
                 f"names {listed(segment.reference for segment in found)}",
                 help="name the future segment, as `corner.future`")  # fmt: skip


def nobody_receives(declaration: ast.Declaration, segment: str, trunk: Trunk) -> Diagnostic:
    return error("WM508", f"`{segment}` is handed to `{trunk.name}`, which has no tokens for it",
                 declaration.span, "", (trunk.span, "the receiver"),
                 help=f"add `{segment}` to the tokens of `{trunk.name}`")  # fmt: skip


def trunk_fruitless(declaration: ast.Declaration) -> Diagnostic:
    name = declaration.name
    return error("WM509", f"nothing comes out of trunk `{name.text}`", name.span,
                 "no loss, align, join, cross or condition uses it",
                 help="generate or align its tokens, couple it, or remove it")  # fmt: skip


def truth_read(source: TokenSource, what: str, maker: Generate) -> Diagnostic:
    name = source.segment.reference
    return error("WM510", f"{what} reads the true `{name}`, which is not known when it is asked",
                 source.span, "the true future", (maker.span, "generated here"),
                 help="read the trunk that predicts it, or hand the prediction over")  # fmt: skip


def truth_stands(group: TokenGroup, maker: Generate) -> Diagnostic:
    return error("WM510", f"trunk `{group.trunk}` reads the true `{group.name}`, which is not "
                 "known when it is asked", group.span, "the true future",
                 (maker.span, "generated here"),
                 help=f"hand it over: `hand NAME: {group.name} -> {group.trunk}`")  # fmt: skip


def never_reaches(condition: Span, name: str, target: str) -> Diagnostic:
    """For the plan's closure: a condition or observed stream that influences nothing sought."""
    return error("WM511", f"`{name}` never reaches {target}", condition,
                 "no path leads from here",
                 help=f"let {target} see it in the attend, or remove it")  # fmt: skip


def assertion_fails(
    span: Span, message: str, path: Sequence[tuple[Span | None, str]]
) -> Diagnostic:
    """For the plan's closure: `path` are the steps (line, words) that break the assertion."""
    steps = tuple((where, text) for where, text in path if where is not None)
    return error("WM512", message, span, "does not hold", *steps,
                 notes=tuple(text for where, text in path if where is None),
                 help="remove one step of the path, or the assertion")  # fmt: skip
