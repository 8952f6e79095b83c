"""Decoupled systems of the atlas and the three references: clean, counted, classified, masked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.front.plan.test_paradigms import canonical_file, planned, renamed
from tests.rules import ROOT
from wmdsl import driver
from wmdsl.plan.as_json import to_json
from wmdsl.plan.nodes import Plan, Space

EXAMPLES = ROOT / "examples"

# paradigm, rule, level, mechanism, visual branch at inference
ROWS = {
    "atlas/unipi.wm": ("idm", 2, "pixel", ("hand",), "active"),
    "atlas/vidman.wm": ("mot", 5, "latent", ("inject",), "reducible"),
    "atlas/vidar.wm": ("idm", 2, "pixel", ("hand",), "active"),
    "atlas/vpp.wm": ("idm", 2, "latent", ("cross_attention",), "reducible"),
    "atlas/video2act.wm": ("none", 6, "control", (), "none"),
    "atlas/tc_idm.wm": ("idm", 2, "3d", ("extern", "hand"), "active"),
    "atlas/novaflow.wm": ("idm", 2, "3d", ("extern",), "active"),
    "atlas/say_dream_act.wm": ("idm", 2, "pixel", ("hand",), "active"),
    "atlas/mimic_video.wm": ("idm", 2, "latent", ("cross_attention",), "reducible"),
    "references/v_jepa2.wm": ("none", 6, "control", (), "none"),
    "references/v_jepa2_ac.wm": ("latent", 1, "latent", ("align",), "none"),
    "references/dino_wm.wm": ("latent", 1, "latent", ("align",), "none"),
}
# published or derived counts with the tolerance of their sources
COUNTS = [
    ("atlas/unipi.wm", ("trunk.planner", "head.imagine"), 1.7e9, 0.10),
    ("atlas/vpp.wm", ("trunk.unet", "head.foresight"), 1.5e9, 0.10),
    ("atlas/mimic_video.wm", ("trunk.video_dit", "cross.prompt", "head.foresight"), 2.0e9, 0.10),
    ("atlas/say_dream_act.wm", ("trunk.video_dit", "cross.prompt", "head.foresight"), 2.0e9, 0.10),
    ("atlas/say_dream_act.wm", ("trunk.policy", "codec.eyes", "codec.dream_eyes"), 1.22e9, 0.05),
    ("atlas/vidar.wm", ("trunk.video_dit", "cross.prompt", "head.foresight"), 5.0e9, 0.05),
    ("atlas/video2act.wm", ("trunk.video_dit", "cross.prompt"), 5.0e9, 0.05),
    ("atlas/novaflow.wm", ("trunk.video_dit", "cross.prompt", "head.foresight"), 14e9, 0.10),
    ("references/v_jepa2_ac.wm", ("trunk.predictor",), 300e6, 0.10),
]
SIZES = ("full", "tiny")


def plan_of(path: str, size: str) -> Plan:
    return driver.front(EXAMPLES / path, {"size": size})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ROWS)
def test_clean_complete_and_in_its_row(path, size):
    assert driver.diagnose(EXAMPLES / path, {"size": size}) == []
    plan = plan_of(path, size)
    row = plan.paradigm
    found = (row.id, row.rule, row.level, row.mechanism, row.visual_at_inference)
    assert found == ROWS[path]
    assert all(query.answerable != "no" for query in plan.queries.values())
    assert to_json(plan)["model"] == Path(path).stem


@pytest.mark.parametrize("path", ROWS)
def test_the_row_looks_at_no_name(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    file, declared = canonical_file(path)
    names = {name: f"name_{number}" for number, name in enumerate(reversed(declared))}
    row = planned(renamed(file, names)).paradigm
    found = (row.id, row.rule, row.level, row.mechanism, row.visual_at_inference)
    assert found == ROWS[path]


@pytest.mark.parametrize("path, owners, count, tolerance", COUNTS)
def test_parameters_are_those_published(path, owners, count, tolerance):
    by_owner = plan_of(path, "full").parameters.by_owner
    assert sum(by_owner[owner] for owner in owners) == pytest.approx(count, rel=tolerance)


def matrix(plan: Plan, name: str) -> np.ndarray:
    """Who sees whom in a space of training, [tokens, tokens]."""
    space = next(space for space in plan.train.spaces if space.name == name and space.time is None)
    seen = np.zeros((space.tokens, space.tokens), dtype=bool)
    for query_start, query_end, key_start, key_end in space.ranges:
        seen[query_start:query_end, key_start:key_end] = True
    return seen


def counts(plan: Plan, name: str) -> list[int]:
    space: Space = next(space for space in plan.train.spaces if space.name == name)
    return [placed.group.count for placed in space.groups]


def each_action_its_frame(frames: int, actions: int) -> np.ndarray:
    """UniPi, Vidar, TC-IDM: an action is read off its own frame; frames do not meet."""
    one = np.eye(frames, dtype=bool)
    return np.block([[one, np.zeros((frames, actions), bool)], [one, one]])


def two_apart(first: int, second: int) -> np.ndarray:
    """VPP's cameras, Video2Act's clips: two batches through the same weights."""
    seen = np.zeros((first + second, first + second), dtype=bool)
    seen[:first, :first] = seen[first:, first:] = True
    return seen


def triangle(tokens: int) -> np.ndarray:
    """VPP's actions."""
    return np.tril(np.ones((tokens, tokens), dtype=bool))


def everything(*groups: int) -> np.ndarray:
    return np.ones((sum(groups), sum(groups)), dtype=bool)


def vidman_adapter(clock: int, texts: int, states: int, slots: int, actions: int) -> np.ndarray:
    """Causal over frame after frame of [text, state, 49 tokens of each camera], then the actions.

    The released sequence is built token by token; the time of the noise is told to all.
    """
    per_view = slots // 8
    sequence = []
    for frame in range(4):
        sequence.append(("text", frame))
        sequence += [("state", frame)] if frame < states else []
        for view in range(2):
            first = (4 * view + frame) * per_view
            sequence += [("slot", cell) for cell in range(first, first + per_view)]
    sequence += [("action", step) for step in range(actions)]
    place = {token: at for at, token in enumerate(sequence)}
    ours = [("text", at) for at in range(texts)] + [("state", at) for at in range(states)]
    ours += [("slot", at) for at in range(slots)] + [("action", at) for at in range(actions)]
    places = np.array([place[token] for token in ours])
    seen = np.ones((clock + len(ours), clock + len(ours)), dtype=bool)
    seen[:clock, clock:] = False
    seen[clock:, clock:] = places[:, None] >= places[None, :]
    return seen


def step_causal(past: int, future: int, poses: int, patches: int) -> np.ndarray:
    """V-JEPA 2-AC: full within a step of [action, pose, patches], and every step before it."""
    steps = past + future
    assert steps == poses
    of = [*range(steps), *range(steps), *np.repeat(np.arange(steps), patches // steps)]
    return np.array(of)[:, None] >= np.array(of)[None, :]


def frame_causal(patches: int) -> np.ndarray:
    """DINO-WM: patches see their own frame and those before it."""
    frame = np.repeat(np.arange(3), patches // 3)
    return frame[:, None] >= frame[None, :]


MASKS: list[tuple[str, str, Callable[..., np.ndarray]]] = [
    ("atlas/unipi.wm", "inverse", each_action_its_frame),
    ("atlas/vidar.wm", "inverse", each_action_its_frame),
    ("atlas/tc_idm.wm", "control", each_action_its_frame),
    ("atlas/vpp.wm", "unet", two_apart),
    ("atlas/vpp.wm", "actor", triangle),
    ("atlas/vpp.wm", "encoder", everything),
    ("atlas/video2act.wm", "video_dit", two_apart),
    ("atlas/video2act.wm", "actor", everything),
    ("atlas/mimic_video.wm", "video_dit", everything),
    ("atlas/mimic_video.wm", "action_dit", everything),
    ("atlas/vidman.wm", "adapter", vidman_adapter),
    ("references/v_jepa2.wm", "predictor", everything),
    ("references/v_jepa2_ac.wm", "predictor", step_causal),
    ("references/dino_wm.wm", "predictor", frame_causal),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path, space, rule", MASKS)
def test_masks_are_those_of_the_code(path, space, rule, size):
    plan = plan_of(path, size)
    assert np.array_equal(matrix(plan, space), rule(*counts(plan, space)))


def test_what_the_plan_finds():
    answers = {
        path: {name: query.answerable for name, query in plan_of(path, "tiny").queries.items()}
        for path in ("atlas/vidman.wm", "atlas/mimic_video.wm", "references/dino_wm.wm")
    }
    # VidMan's video stays at noise while its time walks on; mimic-video has seen pure noise
    assert answers["atlas/vidman.wm"]["policy"] == "approximate"
    assert answers["atlas/mimic_video.wm"] == {
        "imagine": "exact", "policy": "exact", "oracle": "exact",
    }  # fmt: skip
    assert answers["references/dino_wm.wm"] == {"controllable": "exact"}


def test_a_solver_is_called_after_what_it_takes():
    policy = plan_of("atlas/novaflow.wm", "tiny").queries["policy"]
    made = [step.segments for step in policy.chain]
    assert made == [("camera.future",), ("depth.future",), ("tracks.future",), ("action.future",)]
    assert [step.sampler for step in policy.chain] == ["euler", "call", "call", "call"]


def test_what_a_coupling_reads_must_be_given():
    canonical = plan_of("references/dino_wm.wm", "tiny").canonical_queries
    assert canonical["passive_world_model"].answerable == "no"
    assert "action.future is read on the way" in canonical["passive_world_model"].because
