"""Every error of the package: one class per kind of fault, one constructor per sentence."""

from __future__ import annotations

from collections.abc import Sequence


class KernelError(ValueError):
    """The caller handed a kernel something that it cannot honour."""


class ScheduleError(KernelError):
    """A schedule is malformed, or does not fit the tensors it is used with."""


class ArgumentError(KernelError):
    """A tensor has the wrong rank, shape, dtype, device or layout."""


class DispatchError(KernelError):
    """No back end accepts the call, or the one asked for refuses it."""


def range_out_of_bounds(axis: str, bounds: tuple[int, int], length: int) -> ScheduleError:
    return ScheduleError(f"{axis} range {bounds} is not a non-empty part of [0, {length})")


def overlapping_blocks(left: tuple[int, int], right: tuple[int, int]) -> ScheduleError:
    return ScheduleError(f"query blocks {left} and {right} overlap without being identical")


def empty_axis(axis: str, length: int) -> ScheduleError:
    return ScheduleError(f"{axis} length must be at least 1, not {length}")


def schedule_mismatch(scheduled: tuple[int, int], given: tuple[int, int]) -> ScheduleError:
    return ScheduleError(
        f"the schedule is for {scheduled[0]} queries x {scheduled[1]} keys, "
        f"the tensors hold {given[0]} queries x {given[1]} keys"
    )


def wrong_rank(name: str, layout: str, shape: Sequence[int]) -> ArgumentError:
    return ArgumentError(f"{name} must have the layout {layout}, not the shape {list(shape)}")


def wrong_shape(name: str, expected: str, shape: Sequence[int]) -> ArgumentError:
    return ArgumentError(f"{name} has the shape {list(shape)}; expected {expected}")


def wrong_dtype(name: str, dtype: object, expected: str) -> ArgumentError:
    return ArgumentError(f"{name} has the dtype {dtype}; expected {expected}")


def wrong_device(name: str, device: object, expected: object) -> ArgumentError:
    return ArgumentError(f"{name} is on {device}; expected {expected}")


def heads_not_grouped(query_heads: int, key_heads: int) -> ArgumentError:
    return ArgumentError(f"{query_heads} query heads are no multiple of {key_heads} key heads")


def strided_head_dim(name: str, stride: int) -> ArgumentError:
    return ArgumentError(
        f"the last dimension of {name} has stride {stride}, kernels read it with stride 1; "
        "call .contiguous() on it"
    )


def slot_beyond_pool(slot: int, size: int) -> ArgumentError:
    return ArgumentError(f"slots names slot {slot}, the pools have {size}")


def unknown_backend(name: str, known: Sequence[str]) -> DispatchError:
    return DispatchError(f"there is no back end {name!r}; known: {', '.join(known)}")


def backend_refuses(name: str, reason: str) -> DispatchError:
    return DispatchError(f"back end {name!r} refuses this call: {reason}")


def no_backend(refusals: Sequence[tuple[str, str]]) -> DispatchError:
    lines = "".join(f"\n  {name}: {reason}" for name, reason in refusals)
    return DispatchError(f"no attention back end accepts this call:{lines}")


def unknown_choice(name: str, given: str, known: Sequence[str]) -> ArgumentError:
    return ArgumentError(f"{name} is {given!r}; known: {', '.join(known)}")


def wrong_lengths(lengths: Sequence[int], tokens: int) -> ArgumentError:
    return ArgumentError(
        f"the runs {list(lengths)} must be at least 1 long each and add up to {tokens} tokens"
    )


def no_streams() -> ArgumentError:
    return ArgumentError("there must be at least one stream")


def odd_head_dim(head_dim: int) -> ArgumentError:
    return ArgumentError(f"channels are turned in pairs: the head dim must be even, not {head_dim}")


def lone_table(stream: int) -> ArgumentError:
    return ArgumentError(f"stream {stream} has only one of cos and sin")


def tables_per_head(heads: int, key_heads: int) -> ArgumentError:
    return ArgumentError(
        f"tables per head need as many key heads as query heads, not {key_heads} for {heads}"
    )


def gradient_of_table(name: str) -> ArgumentError:
    return ArgumentError(f"{name} requires a gradient, which it does not get; detach it")


def uneven_experts(inputs: int, weights: int, biases: int) -> ArgumentError:
    return ArgumentError(
        f"every expert needs an input, a weight and a bias or None: given are {inputs} inputs, "
        f"{weights} weights, {biases} biases"
    )
