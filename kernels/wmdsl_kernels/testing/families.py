"""Every mask family of the published workloads, small and with lengths no tile divides."""

from __future__ import annotations

from wmdsl_kernels import Schedule
from wmdsl_kernels.bench import masks
from wmdsl_kernels.templates import chunked_teacher_forcing, packed, with_valid_keys

FAMILIES: dict[str, Schedule] = {
    "dense": Schedule.dense(37, 53),
    "fast_wam": masks.fast_wam(13, 26, 7),
    "fast_wam_joint": masks.fast_wam(13, 26, 7, joint=True),
    "fast_wam_idm": masks.fast_wam_idm(9, 18, 5),
    "lingbot": chunked_teacher_forcing(5, 7, 3, chunk=2, window=64),
    "lingbot_window": chunked_teacher_forcing(6, 5, 2, chunk=1, window=3),
    "lingbot_packed": chunked_teacher_forcing(3, 5, 2, chunk=1, window=64, samples=2),
    "pi0": masks.block_causal((41, 1, 11)),
    "pi0_valid": with_valid_keys(masks.block_causal((41, 1, 11)), [(0, 20), (30, 53)]),
    "policy": masks.policy(6, 3, 11, 9),
    "token_causal": masks.token_causal(71),
    "causal_text": masks.causal_text(19, 41, 7),
    "causal_packed": packed([masks.token_causal(29), masks.causal_text(8, 21, 6)]),
    "frame_actions": masks.frame_actions(6, 3, 11, 3),
    "teacher_forcing": masks.teacher_forcing(6, 3, 11, 3),
    "packed": packed([masks.fast_wam(5, 9, 3), Schedule.dense(11, 7)]),
    "cross": Schedule.from_ranges(23, 40, [(0, 9, 0, 17), (9, 23, 3, 40)]),
    "empty_rows": Schedule.from_ranges(31, 29, [(4, 9, 0, 29), (17, 25, 5, 6)]),
    "long": masks.policy(17, 2, 130, 33),
}
