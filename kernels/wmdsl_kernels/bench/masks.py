"""The masks of published video-action systems as schedules, from their rules.

Tokens of one group (stream, frame, copy) are contiguous and see the same keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from wmdsl_kernels.schedule import Schedule


class Group(NamedTuple):
    """A run of tokens: its stream, its frame (order key) and how many tokens it has."""

    stream: str
    frame: int
    length: int


def of_groups(groups: Sequence[Group], sees: Callable[[Group, Group], bool]) -> Schedule:
    """The schedule in which group `query` sees group `key` if `sees(query, key)`.

    Groups without a token vanish.
    """
    groups = [group for group in groups if group.length]
    lengths = [group.length for group in groups]
    return Schedule.from_groups(lengths, lambda i, j: sees(groups[i], groups[j]))


def fast_wam(observed: int, future: int, action: int, joint: bool = False) -> Schedule:
    """First-frame-causal video; the action sees the observed frame, or with `joint` all video."""
    sees = {"observed": {0}, "future": {0, 1}, "action": {0, 1, 2} if joint else {0, 2}}
    groups = [
        Group("observed", 0, observed),
        Group("future", 1, future),
        Group("action", 2, action),
    ]
    return of_groups(groups, lambda query, key: key.frame in sees[query.stream])


def fast_wam_idm(observed: int, future: int, action: int) -> Schedule:
    """Two video copies that do not meet, each first-frame-causal; the action sees the second."""
    groups = [
        Group("noisy", 0, observed),
        Group("noisy", 1, future),
        Group("condition", 0, observed),
        Group("condition", 1, future),
        Group("action", 2, action),
    ]

    def sees(query: Group, key: Group) -> bool:
        if query.stream == "action":
            return key.stream != "noisy"
        return key.stream == query.stream and key.frame <= query.frame

    return of_groups(groups, sees)


def block_causal(segments: Sequence[int]) -> Schedule:
    """Segment i sees segments 0 to i."""
    return Schedule.from_groups(segments, lambda i, j: j <= i)


def token_causal(length: int) -> Schedule:
    """Token i sees tokens 0 to i: a unified model that predicts one token after the other."""
    return block_causal([1] * length)


def causal_text(text: int, image: int, action: int) -> Schedule:
    """Token-causal text, an image that sees it and itself, more such text, an action chunk."""
    return block_causal([*[1] * text, image, *[1] * text, action])


def policy(text: int, frames: int, frame_tokens: int, action: int) -> Schedule:
    """Text, block-causal video that sees the text, one action chunk that sees everything."""
    groups = [Group("text", -1, text)]
    groups += [Group("video", frame, frame_tokens) for frame in range(frames)]
    groups += [Group("action", frames, action)]
    return of_groups(groups, lambda query, key: key.frame <= query.frame)


def frame_actions(text: int, frames: int, frame_tokens: int, action_tokens: int) -> Schedule:
    """Text, block-causal video, one action group per frame that sees the past of both."""
    groups = [Group("text", -1, text)]
    groups += [Group("video", frame, frame_tokens) for frame in range(frames)]
    groups += [Group("action", frame, action_tokens) for frame in range(frames)]

    def sees(query: Group, key: Group) -> bool:
        return key.frame <= query.frame and (key.stream != "action" or query.stream == "action")

    return of_groups(groups, sees)


def teacher_forcing(text: int, frames: int, frame_tokens: int, action_tokens: int) -> Schedule:
    """Clean frames are causal; noisy frames and actions see clean frames before their own."""
    groups = [Group("text", -1, text)]
    for stream, length in (
        ("clean", frame_tokens),
        ("noisy", frame_tokens),
        ("action", action_tokens),
    ):
        groups += [Group(stream, frame, length) for frame in range(frames)]

    def sees(query: Group, key: Group) -> bool:
        if key.stream == "text" or query.stream == "text":
            return key.stream == "text"
        if key.stream == "clean":
            return key.frame < query.frame + (query.stream == "clean")
        if query.stream == "clean" or key.frame != query.frame:
            return False
        return key.stream == query.stream or query.stream == "action"

    return of_groups(groups, sees)
