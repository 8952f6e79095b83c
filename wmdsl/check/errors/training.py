"""Losses, targets and stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wmdsl.check.errors.wording import either, error, listed, replacing, titled
from wmdsl.check.model import Codec, Rule, Segment, Stream, TokenGroup, Trunk
from wmdsl.diagnostics import Diagnostic
from wmdsl.source import Span
from wmdsl.syntax import ast


def loss_on_observed(span: Span, segment: Segment, stream: Stream) -> Diagnostic:
    future = stream.segment("future")
    help = (f"generate `{future.reference}`" if future
            else f"give `{stream.name}` a `future`, as `future 4 frames`")  # fmt: skip
    return error("WM701", f"`{segment.reference}` is observed; a loss on it teaches nothing", span,
                 "generated here", (segment.span, "observed"), help=help,
                 fixes=replacing(span, future and future.reference))  # fmt: skip


def time_of_observed(span: Span, segment: Segment) -> Diagnostic:
    return error("WM402", f"`{segment.reference}` is observed, it has no noise level", span,
                 "read here", (segment.span, "observed"),
                 help="read the time of a segment that is generated")  # fmt: skip


def weightless(item: ast.Item) -> Diagnostic:
    return error("WM912", "a loss of weight 0 is never felt", item.span, "",
                 help="remove the loss, or give it a weight")  # fmt: skip


def generated_twice(
    segment: Segment, first: ast.Declaration, second: ast.Declaration
) -> Diagnostic:
    return error("WM702", f"`{first.name.text}` and `{second.name.text}` both generate "
                 f"`{segment.reference}`", second.span, "again here", (first.span, "first here"),
                 help="keep one of them")  # fmt: skip


def nothing_predicts(span: Span, segment: Segment, handed: Sequence[TokenGroup]) -> Diagnostic:
    others = tuple((group.span, "handed over, not predicted") for group in handed)
    return error("WM703", f"no trunk predicts `{segment.reference}`", span, "has no tokens",
                 *others, help=f"put `{segment.reference}` into the tokens of a trunk",
                 )  # fmt: skip


def predicted_in_several(span: Span, segment: Segment, found: Sequence[TokenGroup]) -> Diagnostic:
    return error("WM704", f"`{segment.reference}` stands in "
                 f"{listed(group.trunk for group in found)}; which one predicts it?", span, "",
                 *((group.span, f"tokens of `{group.trunk}`") for group in found),
                 help=f"hand the prediction over: `hand NAME: {segment.reference} -> "
                 f"{found[-1].trunk}`")  # fmt: skip


def future_without_loss(group: TokenGroup) -> Diagnostic:
    return error("WM705", f"`{group.name}` has no loss, and no query gives it", group.span,
                 "tokens of the future", (group.segment.span, "declared here"),
                 help=f"add `generate NAME: {group.name} by flow`, or give it in a query",
                 )  # fmt: skip


def tokens_alike(declaration: ast.Declaration, group: TokenGroup, trunk: Trunk) -> Diagnostic:
    return error("WM706", f"the {group.count} tokens of `{group.name}` cannot be told apart",
                 declaration.span, "each would get the same answer", (group.span, "tokens"),
                 (trunk.span, "positions none"),
                 help="write `positions learned` or a rotary kind")  # fmt: skip


def not_additive(
    declaration: ast.Declaration, group: TokenGroup, codec: Codec | None
) -> Diagnostic:
    others = ((codec.span, "tokens that are no samples"),) if codec else ()
    return error("WM404", f"a change of `{group.name}` cannot be added to the sample before it",
                 declaration.attribute("predict").span, "adds tokens", (group.span, "tokens"),
                 *others, help="generate it through `patch` or `linear`, or predict `data`",
                 )  # fmt: skip


def nothing_before(declaration: ast.Declaration, group: TokenGroup) -> Diagnostic:
    stream = group.segment.stream
    return error("WM710", f"`{group.name}` begins its stream: there is no sample to change from",
                 declaration.attribute("predict").span, "the change of what was before",
                 (group.segment.span, "declared here"),
                 help=f"give `{stream}` a `now`, or predict `data`")  # fmt: skip


def before_unseen(
    declaration: ast.Declaration, group: TokenGroup, before: Segment
) -> Diagnostic:
    return error("WM710", f"`{group.name}` does not see `{before.reference}`, from which it is to "
                 "change", declaration.attribute("predict").span, "is added to it",
                 (group.span, "tokens"),
                 help=f"let all of `{group.name}` see `{before.reference}` in the same attention "
                 "space, or predict `data`")  # fmt: skip


def guard_needed(declaration: ast.Declaration, guards: Iterable[str]) -> Diagnostic:
    return error("WM707", f"{titled(declaration)} lets the gradient into its target; both sides "
                 "may collapse to a constant", declaration.attribute("gradient").span,
                 "no guard", help=f"add `guard` {either(guards)}")  # fmt: skip


def gradient_into_teacher(declaration: ast.Declaration, teacher: str) -> Diagnostic:
    return error("WM708", f"`gradient` and `teacher {teacher}` contradict each other",
                 declaration.attribute("gradient").span, "trains the target",
                 (declaration.attribute("teacher").span, "its weights are not trained"),
                 help="remove `gradient`, or write `teacher same`")  # fmt: skip


def trained_and_frozen(declaration: ast.Declaration, name: str) -> Diagnostic:
    return error("WM708", f"stage `{declaration.name.text}` trains and freezes `{name}`",
                 declaration.attribute("train").span, "trains it",
                 (declaration.attribute("freeze").span, "keeps its weights"),
                 help=f"take `{name}` out of one of the two")  # fmt: skip


def stage_without_loss(declaration: ast.Declaration) -> Diagnostic:
    name = declaration.name.text
    return error("WM708", f"no loss is in force in stage `{name}`", declaration.name.span,
                 "nothing to train by",
                 help=f"name a loss there, or add `{name}` to the `stage` of one")  # fmt: skip


def not_causal(declaration: ast.Declaration, group: TokenGroup, rule: Rule | None) -> Diagnostic:
    others = ((rule.span, "sees what it must predict"),) if rule else ()
    return error("WM709", f"`{group.name}` is generated token by token, but sees its own later "
                 "tokens", declaration.span, "autoregressive", (group.span, "tokens"), *others,
                 help="use a `decoder` without attend, or a row with `where k <= q`")  # fmt: skip
