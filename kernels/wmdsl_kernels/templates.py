"""Schedules drawn at run time: LingBot-VA's chunk and window, and the validity of keys.

Building one takes Python time once per distinct draw; the results are cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from wmdsl_kernels.ranges import Range, merge_ranges
from wmdsl_kernels.schedule import Schedule


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
    part = samples * frames
    kinds = (video_tokens, 0), (action_tokens, 2 * part * video_tokens)
    rows = []
    for kind, (tokens, noisy) in enumerate(kinds):
        for number, first in enumerate(range(0, frames, chunk)):
            own, earlier = (first, min(first + chunk, frames)), []
            for other, (length, start) in enumerate(kinds):
                # Orders of one kind lie 2 apart: earlier ones in the window are a run of chunks.
                order = 2 * number + kind - other
                low = max(0, (order - window + 1) // 2) * chunk
                high = min((order + 1) // 2 * chunk, frames)
                if low < high:
                    earlier.append((start + part * length, length, (low, high)))
            for sample in range(0, part, frames):
                seen = [_span(*clean, sample) for clean in earlier]
                for start in (noisy, noisy + part * tokens):
                    block = _span(start, tokens, own, sample)
                    rows += [(*block, *span) for span in (block, *seen)]
    length = 2 * part * (video_tokens + action_tokens)
    return Schedule.from_ranges(length, length, rows)


def _span(start: int, tokens: int, frames: Range, sample: int) -> Range:
    """The tokens of `frames` of the sample that begins at frame `sample` of a part at `start`."""
    return start + (sample + frames[0]) * tokens, start + (sample + frames[1]) * tokens


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
