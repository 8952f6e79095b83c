"""Where a spec does not fit a data set."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from wmdsl.check.errors.wording import decimal, either, error
from wmdsl.check.model import Stream
from wmdsl.diagnostics import Diagnostic, did_you_mean


def not_recorded(
    stream: Stream, key: str, root: object, fitting: Sequence[str]
) -> Diagnostic:
    near = did_you_mean(key, fitting)
    keys = [f'key "{key}"' for key in ([near] if near else fitting)]
    help = f"write {either(keys)}" if keys else f"the data set holds no {stream.modality}"
    return error("WM140", f"the data set has no `{key}` for stream `{stream.name}`",
                 stream.places["key"], "not recorded", notes=(f"the data set is {root}",),
                 help=help)  # fmt: skip


def recorded_otherwise(stream: Stream, key: str, is_camera: bool) -> Diagnostic:
    found = "a camera" if is_camera else "a column of numbers"
    return error("WM220", f"`{key}` is {found}, stream `{stream.name}` is "
                 f"{stream.modality}", stream.places["type"], stream.modality,
                 (stream.places["key"], f"names {found}"),
                 help="name another key, or change the type of the stream")  # fmt: skip


def shape_recorded(stream: Stream, key: str, shape: tuple[int, ...]) -> Diagnostic:
    return error("WM220", f"stream `{stream.name}` has the shape {list(stream.shape)}, the data "
                 f"set's `{key}` {list(shape)}", stream.places["type"],
                 f"{list(stream.shape)}", (stream.places["key"], f"{list(shape)} in the data set"),
                 help=f"write `{stream.modality}[{', '.join(map(str, shape))}]`, or name another "
                 "key")  # fmt: skip


def recorded_slower(stream: Stream, key: str, recorded: Fraction) -> Diagnostic:
    return error("WM320", f"stream `{stream.name}` wants {decimal(stream.rate_hz)} Hz, "
                 f"`{key}` was recorded at {decimal(recorded)} Hz",
                 stream.places["rate"], "faster than the recording",
                 help=f"write `at {decimal(recorded)} Hz`")  # fmt: skip


def stride_not_whole(stream: Stream, rows: Fraction, recorded: Fraction) -> Diagnostic:
    wanted = stream.rate_hz
    rates = [rows / n for n in range(1, 257)]
    fits = [rate for rate in rates if (recorded / rate).denominator == 1]
    near = sorted(sorted(fits, key=lambda rate: abs(rate - wanted))[:2])
    return error("WM321", f"{decimal(wanted)} Hz of stream `{stream.name}` is no whole part of "
                 f"the data set's {decimal(rows)} Hz", stream.places["rate"],
                 f"a sample every {decimal(rows / wanted)} rows",
                 help=f"take {' or '.join(f'{decimal(rate)} Hz' for rate in near)}")  # fmt: skip
