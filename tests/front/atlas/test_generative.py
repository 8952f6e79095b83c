"""Single-backbone and mixture systems of the atlas: clean, counted, classified, masked."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.rules import ROOT
from wmdsl import driver
from wmdsl.plan.as_json import to_json
from wmdsl.plan.nodes import Plan, Space

ATLAS = ROOT / "examples" / "atlas"

# paradigm, rule, level, mechanism, visual branch at inference
ROWS = {
    "uva": ("single_backbone", 4, "latent", ("concat",), "reducible"),
    "uwm": ("single_backbone", 4, "latent", ("concat",), "reducible"),
    "videovla": ("single_backbone", 4, "latent", ("concat",), "active"),
    "videopolicy": ("idm", 2, "latent", ("film",), "active"),
    "dreamzero": ("single_backbone", 4, "latent", ("concat",), "active"),
    "dreamzero_flash": ("single_backbone", 4, "latent", ("concat",), "reducible"),
    "gigaworld_policy": ("single_backbone", 4, "latent", ("concat",), "dropped"),
    "gigaworld_policy_0_5": ("mot", 5, "latent", ("joint_attention",), "dropped"),
    "ud_vla": ("single_backbone", 4, "latent", ("concat",), "active"),
    "ge_act": ("mot", 5, "latent", ("cross_attention",), "reducible"),
    "motus": ("mot", 5, "latent", ("joint_attention",), "reducible"),
    "bagelvla": ("mot", 5, "latent", ("joint_attention",), "reducible"),
    "lda_1b": ("latent", 1, "latent", ("joint_attention",), "none"),
    "frappe": ("latent", 1, "latent", ("align",), "none"),
}
WAN = ("trunk.video_dit", "cross.prompt", "head.foresight")
# published or derived counts with the tolerance of their sources
COUNTS = [
    ("motus", WAN, 5.0e9, 0.05),
    ("motus", ("trunk.action_dit", "codec.arm", "codec.body", "head.act"), 641.5e6, 0.05),
    ("motus", ("trunk.understanding",), 253.5e6, 0.05),
    ("ge_act", ("trunk.video", "cross.prompt"), 1.88e9, 0.05),
    ("ge_act", ("trunk.actor", "cross.look"), 164e6, 0.05),
    ("lda_1b", ("trunk.seer", "trunk.doer", "cross.read"), 1.76e9, 0.05),
    ("gigaworld_policy", WAN, 5.0e9, 0.10),
    ("dreamzero", WAN, 14e9, 0.10),
    ("videovla", ("trunk.dit", "head.both"), 5.0e9, 0.10),
    ("ud_vla", ("trunk.emu3", "head.next", "head.act"), 8.5e9, 0.10),
]
SIZES = ("full", "tiny")


def plan_of(name: str, size: str) -> Plan:
    return driver.front(ATLAS / f"{name}.wm", {"size": size})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ROWS)
def test_clean_complete_and_in_its_row(name, size):
    assert driver.diagnose(ATLAS / f"{name}.wm", {"size": size}) == []
    plan = plan_of(name, size)
    row = plan.paradigm
    found = (row.id, row.rule, row.level, row.mechanism, row.visual_at_inference)
    assert found == ROWS[name]
    assert all(query.answerable != "no" for query in plan.queries.values())
    assert to_json(plan)["model"] == name


@pytest.mark.parametrize("name, owners, count, tolerance", COUNTS)
def test_parameters_are_those_published(name, owners, count, tolerance):
    by_owner = plan_of(name, "full").parameters.by_owner
    assert sum(by_owner[owner] for owner in owners) == pytest.approx(count, rel=tolerance)


def filled(tokens: int, ranges: Sequence[tuple[int, int, int, int]]) -> np.ndarray:
    seen = np.zeros((tokens, tokens), dtype=bool)
    for query_start, query_end, key_start, key_end in ranges:
        seen[query_start:query_end, key_start:key_end] = True
    return seen


def space_of(plan: Plan, name: str) -> Space:
    return next(space for space in plan.train.spaces if space.name == name and space.time is None)


def everything(*groups: int) -> np.ndarray:
    return np.ones((sum(groups), sum(groups)), dtype=bool)


def by_rule(groups: Sequence[tuple[str, int]], sees: dict[str, str]) -> np.ndarray:
    """Whole groups see whole groups, each named by a letter."""
    letters = [letter for letter, count in groups for _ in range(count)]
    return np.array([[key in sees[query] for key in letters] for query in letters])


# {state, reference} see each other, action sees them and itself, the future sees everything
GIGAWORLD = {"s": "sr", "r": "sr", "a": "sra", "f": "sraf"}


def gigaworld(state: int, reference: int, action: int, future: int) -> np.ndarray:
    return by_rule([("s", state), ("r", reference), ("a", action), ("f", future)], GIGAWORLD)


def gigaworld_in_two(reference: int, future: int, state: int, action: int) -> np.ndarray:
    return by_rule([("r", reference), ("f", future), ("s", state), ("a", action)], GIGAWORLD)


def hybrid(text: int, image: int, future: int, action: int) -> np.ndarray:
    """UD-VLA: blocks are causal, full within themselves but for the text."""
    block = np.repeat([0, 1, 2, 3], [text, image, future, action])
    seen = block[:, None] >= block[None, :]
    seen[:text, :text] = np.tril(np.ones((text, text), dtype=bool))
    return seen


def blocks_of(past: int, future: int) -> np.ndarray:
    """DreamZero's blocks: the first latent frame alone, then two by two; 3 past, 1 to come."""
    cells = future // 2
    assert past == 7 * cells
    return np.repeat([0, 1, 1, 2, 2, 3, 3, 4, 4], cells)


def dreamzero(past: int, future: int, action: int, state: int) -> np.ndarray:
    """The last block sees all frames before it and itself; the state is seen, and sees itself."""
    video = blocks_of(past, future)
    of = np.concatenate([video, np.full(action + state, 4)])
    frames = past + future
    seen = np.zeros((len(of), len(of)), dtype=bool)
    seen[:, :frames] = of[:, None] >= video[None, :]
    seen[past:, frames:] = True
    seen[frames + action :] = False
    seen[frames + action :, frames + action :] = True
    return seen


def teacher_forced(past: int, future: int, action: int, state: int) -> np.ndarray:
    """[clean | noisy]: a noisy block sees clean frames before it, itself, its actions and state."""
    video = blocks_of(past, future)
    tokens = [("v", block) for block in video] + [("a", 4)] * action + [("s", 4)] * state
    both = [(copy, kind, block) for copy in "cn" for kind, block in tokens]

    def sees(query, key):
        (copy, kind, block), (key_copy, key_kind, key_block) = query, key
        if kind == "s" or (copy == "c" and kind == "a"):
            return copy == key_copy and kind == key_kind
        if copy == "c":
            return key_copy == "c" and key_kind == "v" and key_block <= block
        if key_copy == "c":
            return key_kind == "v" and key_block < block
        return key_block == block

    return np.array([[sees(query, key) for key in both] for query in both])


MASKS: list[tuple[str, str, Callable[..., np.ndarray]]] = [
    ("uva", "mar", everything),
    ("uwm", "dit", everything),
    ("videovla", "dit", everything),
    ("videopolicy", "unet", everything),
    ("motus", "experts", everything),
    ("ge_act", "video", everything),
    ("ge_act", "actor", everything),
    ("lda_1b", "experts", everything),
    ("frappe", "rdt", everything),
    ("gigaworld_policy", "video_dit", gigaworld),
    ("gigaworld_policy_0_5", "experts", gigaworld_in_two),
    ("ud_vla", "emu3", hybrid),
    ("dreamzero", "video_dit", dreamzero),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name, space, rule", MASKS)
def test_masks_are_those_of_the_code(name, space, rule, size):
    found = space_of(plan_of(name, size), space)
    expected = rule(*(placed.group.count for placed in found.groups))
    assert np.array_equal(filled(found.tokens, found.ranges), expected)


def test_dreamzero_is_taught_with_a_clean_copy():
    plan = plan_of("dreamzero", "tiny")
    packed = plan.masks["packed"]
    expected = teacher_forced(*(p.group.count for p in space_of(plan, "video_dit").groups))
    assert np.array_equal(filled(packed.tokens, packed.ranges), expected)


def dropped(name: str) -> dict[str, str]:
    return {entry.what: entry.how for entry in plan_of(name, "tiny").queries["policy"].dropped}


def test_what_the_policy_does_with_the_future():
    assert dropped("gigaworld_policy")["camera.future"] == "deleted_exactly"
    assert dropped("gigaworld_policy_0_5")["camera.future"] == "deleted_exactly"
    assert dropped("uwm")["camera.future"] == "pinned_at_noise"
    assert "camera.future" not in dropped("videovla")


def test_one_time_for_two_streams_costs_a_query_its_exactness():
    assert plan_of("gigaworld_policy", "tiny").queries["controllable"].answerable == "approximate"
    assert plan_of("gigaworld_policy_0_5", "tiny").queries["controllable"].answerable == "exact"
