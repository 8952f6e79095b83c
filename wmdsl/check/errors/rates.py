"""Rates, lengths in time, and what divides into what."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from wmdsl.check.errors.wording import decimal, error
from wmdsl.check.model import Segment, Stream
from wmdsl.diagnostics import Diagnostic
from wmdsl.source import Span
from wmdsl.syntax import ast


def rate_not_positive(term: ast.Number) -> Diagnostic:
    return error("WM301", f"a rate of {term.span.text} is impossible", term.span,
                 "must be more than 0", help="write how often a sample comes, as `20 Hz`",
                 )  # fmt: skip


def rate_needed(span: Span) -> Diagnostic:
    return error("WM302", f"`{span.text}` needs the rate of the stream", span,
                 "seconds of an unknown rate",
                 help="declare the rate, `at 20 Hz`, or count frames or steps")  # fmt: skip


def seconds_not_whole(span: Span, seconds: Fraction, hertz: Fraction) -> Diagnostic:
    count = seconds * hertz
    near = sorted({Fraction(count.__floor__()), Fraction(count.__ceil__())} - {Fraction(0)})
    fits = " or ".join(f"`{decimal(number / hertz)} s`" for number in near)
    return error("WM303", f"{span.text} at {decimal(hertz)} Hz is {decimal(count)} samples",
                 span, "not a whole number of samples", help=f"take {fits}")  # fmt: skip


def stride_zero(span: Span) -> Diagnostic:
    return error("WM126", "two samples cannot stand at the same time", span,
                 "at least one sample", help="leave `every` out for neighbouring samples",
                 )  # fmt: skip


def rates_unrelated(stream: Stream, other: Stream, nearest: Sequence[Fraction]) -> Diagnostic:
    here, there = decimal(stream.rate_hz), decimal(other.rate_hz)
    fits = " or ".join(f"{decimal(rate)} Hz" for rate in nearest)
    return error("WM304", f"{here} Hz of `{stream.name}` and {there} Hz of `{other.name}` have no "
                 "whole ratio", stream.places["rate"], f"{here} Hz",
                 (other.places["rate"], f"{there} Hz"),
                 help=f"the nearest workable rates are {fits}; or declare `resample hold` in "
                 f"`{stream.name}`")  # fmt: skip


def chunk_does_not_divide(action: Segment, frames: Segment, per_frame: int) -> Diagnostic:
    count = action.length
    fits = sorted({count - count % per_frame, count - count % per_frame + per_frame} - {0})
    return error("WM305", f"{count} steps of `{action.stream}` do not divide over frames that "
                 f"come every {per_frame} steps", action.span, f"{count} steps",
                 (frames.span, f"one frame every {per_frame} steps"),
                 help=f"take {' or '.join(map(str, fits))} steps")  # fmt: skip


def horizons_differ(
    action: Segment, ahead: Fraction, frames: Segment, seen: Fraction
) -> Diagnostic:
    return error("WM910", f"`{action.stream}` is predicted {decimal(ahead)} s ahead, "
                 f"`{frames.stream}` {decimal(seen)} s", action.span, f"{decimal(ahead)} s",
                 (frames.span, f"{decimal(seen)} s"),
                 help="make the horizons equal if both describe the same future")  # fmt: skip


def executes_too_much(attribute: ast.Attribute, count: int, action: Segment) -> Diagnostic:
    return error("WM306", f"{count} steps are executed, {action.length} are predicted",
                 attribute.span, f"more than {action.length}",
                 (action.span, f"{action.length} steps"),
                 help=f"execute at most {action.length} steps")  # fmt: skip


def timeless(modality: str, attribute: ast.Attribute) -> Diagnostic:
    return error("WM307", f"a stream of {modality} has no time axis", attribute.span,
                 "segments are for streams over time",
                 help="remove it; the whole stream is referred to by its name")  # fmt: skip


def no_samples(declaration: ast.Declaration) -> Diagnostic:
    return error("WM122", f"stream `{declaration.name.text}` has no samples",
                 declaration.name.span, "needs `past`, `now` or `future`",
                 help="add `now 1 frame` for what is seen, `future 16 steps` for what is "
                 "predicted")  # fmt: skip
