"""Codecs that cannot read a stream, or cannot be read back."""

from __future__ import annotations

from collections.abc import Sequence

from wmdsl.check.errors.wording import error, listed
from wmdsl.check.model import Align, Codec, Generate, Segment, Stream, TokenGroup
from wmdsl.diagnostics import Diagnostic
from wmdsl.source import Span
from wmdsl.syntax import ast


def codec_needed(
    span: Span, stream: Stream, fitting: Sequence[Codec], kinds: Sequence[str]
) -> Diagnostic:
    if fitting:
        help = f"write `{fitting[0].name}({span.text})`"
    else:
        help = f"declare one, as `codec NAME: {kinds[0]}`, and write `NAME({span.text})`"
    return error("WM401", f"`{stream.name}` is {stream.modality}; it needs a codec to become "
                 "tokens", span, "bare", help=help,
                 notes=(f"codecs for {stream.modality}: {listed(kinds)}",))  # fmt: skip


def codec_cannot_read(
    span: Span, codec: Codec, stream: Stream, fitting: Sequence[str]
) -> Diagnostic:
    return error("WM402", f"codec `{codec.name}` of kind {codec.kind} cannot read "
                 f"{stream.modality}", span, "", (codec.span, f"reads no {stream.modality}"),
                 (stream.span, f"this is {stream.modality}"),
                 help=f"codecs for {stream.modality}: {listed(fitting)}")  # fmt: skip


def pool_of_pool(span: Span, inner: Codec) -> Diagnostic:
    return error("WM402", f"codec `{inner.name}` is a pool itself", span, "",
                 (inner.span, "a pool"), help="name the codec that is pooled")  # fmt: skip


def cannot_read_back(
    declaration: ast.Declaration, group: TokenGroup, codec: Codec | None
) -> Diagnostic:
    what = f"codec `{codec.name}`" if codec else "learned tokens"
    others = ((codec.span, "features without a way back"),) if codec else ()
    return error("WM403", f"`{group.name}` cannot be generated: nothing turns tokens of {what} "
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
    return error("WM404", f"{objective} predicts {wanted}; `{group.name}` comes as {found}",
                 declaration.span, objective,
                 (group.span, f"through a {codec.kind} codec"),
                 help=f"read it through {way}, or change the objective")  # fmt: skip


def clip_leaks(codec: Codec, leak: Span, later: Segment, made: Align | Generate) -> Diagnostic:
    return error("WM405", f"codec `{codec.name}` looks over the whole clip, so its past features "
                 f"already hold `{later.reference}`", leak, "read as an input",
                 (codec.span, "scope clip"),
                 (made.span, f"predicts `{later.reference}` from it"),
                 help="write `scope frame` or `scope prefix`", )  # fmt: skip
