"""Schedules drawn at run time: LingBot-VA's chunk and window, and the validity of keys.

Building one takes Python time once per distinct draw; the results are cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from wmdsl_kernels.ranges import Range, merge_ranges
from wmdsl_kernels.schedule import Schedule


class _Group(NamedTuple):
    sample: int
    order: int
    noisy: bool


@lru_cache(maxsize=1024)
def chunked_teacher_forcing(
    frames: int,
    video_tokens: int,
    action_tokens: int,
    chunk: int,
    window: int,
    samples: int = 1,
) -> Schedule:
    """LingBot-VA's training mask over [noisy video | clean video | noisy action | clean action].

    Each part holds `samples` x `frames` frames. Video of chunk c has order 2c, its action 2c + 1.
    Clean sees clean of no later order; noisy sees clean of earlier order and noisy of its own;
    all within one sample and orders at most `window` apart.
    """
    groups, lengths = [], []
    for is_action, tokens in ((0, video_tokens), (1, action_tokens)):
        for noisy in (True, False):
            for sample in range(samples):
                for frame in range(frames):
                    groups.append(_Group(sample, 2 * (frame // chunk) + is_action, noisy))
                    lengths.append(tokens)
    return Schedule.from_groups(lengths, lambda i, j: _teacher_sees(groups[i], groups[j], window))


def _teacher_sees(query: _Group, key: _Group, window: int) -> bool:
    if query.sample != key.sample or abs(query.order - key.order) > window:
        return False
    if not query.noisy:
        return not key.noisy and key.order <= query.order
    return key.order == query.order if key.noisy else key.order < query.order


def with_valid_keys(schedule: Schedule, valid: Sequence[Range]) -> Schedule:
    """The schedule restricted to the key ranges in `valid`: padding and absent cameras vanish."""
    allowed = merge_ranges(valid)
    rows = []
    for query_start, query_stop, key_start, key_stop in schedule.to_ranges():
        for low, high in allowed:
            start, stop = max(low, key_start), min(high, key_stop)
            if start < stop:
                rows.append((query_start, query_stop, start, stop))
    return Schedule.from_ranges(schedule.query_length, schedule.key_length, rows)


def packed(schedules: Sequence[Schedule]) -> Schedule:
    """Samples laid end to end, each under its own schedule, none seeing another."""
    query_edges = [0, *accumulate(one.query_length for one in schedules)]
    key_edges = [0, *accumulate(one.key_length for one in schedules)]
    rows = [
        (query_start + query, query_stop + query, key_start + key, key_stop + key)
        for one, query, key in zip(schedules, query_edges, key_edges, strict=False)
        for query_start, query_stop, key_start, key_stop in one.to_ranges()
    ]
    return Schedule.from_ranges(query_edges[-1], key_edges[-1], rows)
