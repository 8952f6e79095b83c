"""The workload table: attention shapes of published video-action systems.

Batches and heads of the large ones are scaled to two CPU cores with `--scale cpu`; the mask and the
head dim, which decide the ratios, stay as published.
"""

from __future__ import annotations

from dataclasses import dataclass

from wmdsl_kernels.bench import masks
from wmdsl_kernels.schedule import Schedule
from wmdsl_kernels.templates import chunked_teacher_forcing


@dataclass(frozen=True)
class Workload:
    """One attention call: tokens and visibility by the schedule, [batch, heads, head dim] here."""

    name: str
    schedule: Schedule
    batch: int
    query_heads: int
    key_heads: int
    head_dim: int
    backward: bool = True
    dtypes: tuple[str, ...] = ("fp32", "bf16", "fp16")
    """What it can be timed in; the longest are not in fp32, which would take minutes a round."""

    def flops(self, backward: bool) -> int:
        """Floating point operations over the visible pairs; backward counts the forward too."""
        forward = 4 * self.batch * self.query_heads * self.schedule.pairs * self.head_dim
        return forward * 7 // 2 if backward else forward


def _lingbot(frames: int, chunk: int, window: int) -> Schedule:
    return chunked_teacher_forcing(frames, 120, 16, chunk, window)


PUBLISHED = (
    Workload("FW1", masks.fast_wam(98, 196, 32), 16, 24, 24, 128),
    Workload("FW2", masks.fast_wam(120, 240, 32), 16, 24, 24, 128),
    Workload("FW3", masks.fast_wam(98, 196, 32, joint=True), 16, 24, 24, 128),
    Workload("FW4a", masks.fast_wam_idm(98, 196, 32), 16, 24, 24, 128),
    Workload("FW4b", masks.fast_wam_idm(120, 240, 32), 16, 24, 24, 128),
    Workload("FW6", Schedule.dense(32, 130), 1, 24, 24, 128, backward=False),
    Workload("LB1a", _lingbot(16, 2, 64), 1, 24, 24, 128),
    Workload("LB1b", _lingbot(32, 4, 8), 1, 24, 24, 128),
    Workload("LB1c", _lingbot(16, 1, 64), 1, 24, 24, 128),
    Workload("LB2", chunked_teacher_forcing(32, 32, 4, 4, 64, samples=4), 1, 24, 24, 128),
    Workload("LB4", Schedule.dense(240, 9792), 2, 24, 24, 128, backward=False),
    Workload("LB5", Schedule.dense(32, 9792), 2, 24, 24, 128, backward=False),
    Workload("MO1", Schedule.dense(561, 561), 8, 24, 24, 128),
    Workload("GE1", Schedule.dense(288, 288), 24, 32, 32, 64),
    Workload("GE2", Schedule.dense(864, 864), 8, 32, 32, 64),
    Workload("GE4", Schedule.dense(55, 864), 8, 16, 16, 32),
    Workload("P1", masks.block_causal((816, 1, 50)), 32, 8, 1, 256),
    Workload("P2", masks.block_causal((968, 50)), 32, 8, 1, 256),
    Workload("P3", Schedule.dense(51, 867), 1, 8, 1, 256, backward=False),
    Workload("LD1", Schedule.dense(250, 250), 32, 32, 32, 48),
    Workload("FR1", Schedule.dense(291, 291), 8, 32, 32, 64),
    Workload("tokens-2048", masks.token_causal(2048), 8, 32, 8, 128),
    Workload("dense-8192", Schedule.dense(8192, 8192), 1, 64, 8, 128),
    Workload("blocks-1024", masks.block_causal([256] * 4), 1, 64, 8, 128),
    Workload("blocks-2048", masks.block_causal([256] * 8), 1, 64, 8, 128),
    Workload("blocks-8192", masks.block_causal([2048] * 4), 1, 64, 8, 128),
    Workload("blocks-32768", masks.block_causal([2048] * 16), 1, 64, 8, 128, dtypes=("bf16",)),
    Workload("teacher-880", masks.teacher_forcing(0, 31, 880, 0), 1, 24, 24, 128, dtypes=("bf16",)),
)
"""As published, for a GPU; then the shapes that goals are stated on: dense, block-causal, and clean
and noisy copies of 31 frames of 880 tokens. MagiAttention's chart, which the goals for block-causal
masks cite, packs documents of random lengths into each length and cuts them into blocks of 2048;
ours is one document, in blocks of a frame where 2048 would be all."""

CPU = (
    Workload("FW1", masks.fast_wam(98, 196, 32), 1, 24, 24, 128),
    Workload("FW2", masks.fast_wam(120, 240, 32), 1, 24, 24, 128),
    Workload("FW3", masks.fast_wam(98, 196, 32, joint=True), 1, 24, 24, 128),
    Workload("FW4a", masks.fast_wam_idm(98, 196, 32), 1, 24, 24, 128),
    Workload("FW4b", masks.fast_wam_idm(120, 240, 32), 1, 24, 24, 128),
    Workload("LB1a", _lingbot(16, 2, 64), 1, 4, 4, 128),
    Workload("P1", masks.block_causal((816, 1, 50)), 2, 8, 1, 256),
    Workload("policy-256", masks.policy(32, 4, 64, 16), 1, 12, 12, 64),
    Workload("policy-1024", masks.policy(64, 8, 128, 32), 1, 12, 12, 64),
    Workload("policy-2048", masks.policy(64, 16, 128, 64), 1, 12, 12, 64),
    Workload("frames-64", masks.frame_actions(64, 8, 128, 8), 1, 12, 12, 64),
    Workload("frames-128", masks.frame_actions(64, 8, 128, 8), 1, 12, 12, 128),
    Workload("teacher", masks.teacher_forcing(64, 8, 128, 8), 1, 12, 12, 64),
    Workload("tokens-512", masks.token_causal(512), 2, 8, 8, 64),
    Workload("demo-tokens", masks.token_causal(42), 64, 4, 2, 32),
    Workload("demo-small", masks.policy(4, 2, 49, 16), 64, 2, 2, 32),
    Workload("demo-large", masks.policy(4, 4, 64, 16), 32, 8, 8, 64),
)
"""FW1-FW4, LB1a and P1 scaled to two cores, six policy shapes, token-causal ones, two shapes of a
training demo."""

TABLES = {"cuda": PUBLISHED, "cpu": CPU}
