"""Unified and latent systems of the atlas: clean, counted, classified, masked."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.rules import ROOT
from wmdsl import driver
from wmdsl.plan.as_json import to_json
from wmdsl.plan.nodes import Plan, Space

ATLAS = ROOT / "examples" / "atlas"
SIZES = ("full", "tiny")

# paradigm, rule, level, mechanism, visual branch at inference
ROWS = {
    "gr1": ("unified_vla", 3, "pixel", ("concat",), "dropped"),
    "gr1_blind": ("none", 6, "control", (), "none"),
    "up_vla": ("single_backbone", 4, "latent", ("concat",), "reducible"),
    "rynnvla_002": ("unified_vla", 3, "latent", ("concat",), "dropped"),
    "dreamvla": ("unified_vla", 3, "3d", ("concat",), "dropped"),
    "univla_latent_action": ("latent", 1, "latent", ("cross_attention",), "none"),
    "univla_emu3": ("unified_vla", 3, "latent", ("concat",), "dropped"),
    "f1_vla": ("mot", 5, "latent", ("joint_attention",), "active"),
    "halo": ("mot", 5, "latent", ("joint_attention",), "active"),
    "cowvla": ("unified_vla", 3, "latent", ("concat",), "dropped"),
    "trivla": ("idm", 2, "latent", ("cross_attention",), "reducible"),
    "flare": ("latent", 1, "latent", ("align",), "none"),
    "flare_without_loss": ("none", 6, "control", (), "none"),
    "jepa_vla": ("latent", 1, "latent", ("feature",), "none"),
    "wog": ("latent", 1, "latent", ("align",), "none"),
    "wog_first": ("none", 6, "control", (), "none"),
    "dial": ("latent", 1, "latent", ("align",), "none"),
}
# published counts with the tolerance of their sources; None: every owner
COUNTS = [
    ("gr1", None, 46e6, 0.10),
    ("univla_emu3", ("trunk.lm", "head.act", "head.next"), 8.5e9, 0.10),
    ("cowvla", ("trunk.lm", "head.act", "head.next", "head.end"), 8.5e9, 0.10),
    ("rynnvla_002", ("trunk.lm", "head.act", "head.next"), 7.0e9, 0.10),
    ("univla_latent_action", ("trunk.vlm", "head.intend"), 7.0e9, 0.10),
]


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
    assert to_json(plan)["model"] == Path(name).stem


@pytest.mark.parametrize("name, owners, count, tolerance", COUNTS)
def test_parameters_are_those_published(name, owners, count, tolerance):
    by_owner = plan_of(name, "full").parameters.by_owner
    counted = sum(by_owner[owner] for owner in owners or by_owner)
    assert counted == pytest.approx(count, rel=tolerance)


Tokens = Mapping[str, range]  # places of each group, by its name


def space_of(plan: Plan, name: str) -> Space:
    return next(space for space in plan.train.spaces if space.name == name and space.time is None)


def matrix(space: Space) -> np.ndarray:
    """Who sees whom in a space of training, [tokens, tokens]."""
    seen = np.zeros((space.tokens, space.tokens), dtype=bool)
    for query_start, query_end, key_start, key_end in space.ranges:
        seen[query_start:query_end, key_start:key_end] = True
    return seen


def tokens_of(space: Space) -> Tokens:
    return {
        placed.group.name: range(placed.start, placed.start + placed.group.count)
        for placed in space.groups
    }


def built(space: Space, sees: Callable[[str, int, str, int], bool]) -> np.ndarray:
    """The matrix of a rule about (group, place within it) of query and key."""
    labels = [(name, at) for name, places in tokens_of(space).items() for at in range(len(places))]
    return np.array([[sees(*query, *key) for key in labels] for query in labels])


def gr1_sequence(name: str, at: int) -> tuple[int, int]:
    """(step, place in it) in bytedance/GR-1: text, state, then 9 slots and a class a view."""
    match name:
        case "text" | "proprio.now":
            return at, int(name == "proprio.now")
        case "slots":
            step, slot = divmod(at, 18)
            return step, 2 + slot if slot < 9 else 3 + slot
        case "camera.now":
            step, view = divmod(at, 2)
            return step, 11 if view == 0 else 21
        case "action.future":
            return at, 22
    return at // 20, 23


def gr1_sees(query: str, at: int, key: str, place: int) -> bool:
    """Causal over the flat sequence; nobody sees a query, not even itself."""
    if key in ("action.future", "obs"):
        return False
    return gr1_sequence(key, place) <= gr1_sequence(query, at)


DREAMS = ("dream", "deep", "meaning")
PER_STEP = {"text": 1, "proprio.now": 1, "slots": 32, "camera.now": 2}


def dreamvla_sees(query: str, at: int, key: str, place: int) -> bool:
    """Steps up to the own one; the queries of the last step see it all, the intent the dreams."""
    if key == "intent":
        return False
    if key in DREAMS:
        return query == "intent"
    return query not in PER_STEP or place // PER_STEP[key] <= at // PER_STEP[query]


def resampler_sees(query: str, at: int, key: str, place: int, slots: int, cells: int) -> bool:
    """A perceiver: the slots of a view read its cells and each other."""
    size = {"camera.now": cells, "slots": slots}
    if (query, key) == ("camera.now", "slots"):
        return False
    return at // size[query] == place // size[key]


def worldvla_sees(query: str, at: int, key: str, place: int) -> bool:
    """Causal, but an action step, 4 numbers and 2 markers, does not see the steps before it."""
    order = ("text", "proprio.now", "image.now", "action.future", "image.future")
    if query == key == "action.future":
        return at // 6 == place // 6 and place <= at
    return (order.index(key), place if key == query else 0) <= (order.index(query), at)


def up_vla_sees(query: str, at: int, key: str, place: int) -> bool:
    """Pictures see everything; text and slots are causal, and slots come last."""
    if query.startswith("camera"):
        return True
    if query == key:
        return place <= at
    return query == "action.future" and key != query


F1_BLOCKS = {
    "camera.now": 0, "text": 0, "view.now": 1, "view.future": 2, "proprio.now": 3,
    "action.future": 4,
}  # fmt: skip


def f1_sees(query: str, at: int, key: str, place: int) -> bool:
    """The paper's one-way hierarchy; scales of 1, 4, 9 and 16 codes see the coarser ones."""
    if query == key == "view.future":
        ends = np.cumsum([1, 4, 9, 16])
        return bool(np.searchsorted(ends, place, "right") <= np.searchsorted(ends, at, "right"))
    return F1_BLOCKS[key] <= F1_BLOCKS[query]


def causal(query: str, at: int, key: str, place: int, order: tuple[str, ...], apart: str) -> bool:
    """Emu3: in the order of the tokens; the world's frames are another layout than the policy's."""
    if (query != "text" and key != "text") and query.startswith(apart) != key.startswith(apart):
        return False
    return (order.index(key), place if key == query else 0) <= (order.index(query), at)


@pytest.mark.parametrize("name", ["gr1", "gr1_blind"])
@pytest.mark.parametrize("size", SIZES)
def test_gr1(name, size):
    plan = plan_of(name, size)
    space = space_of(plan, "gpt")
    assert space.tokens == {"gr1": 430, "gr1_blind": 230}[name]
    assert np.array_equal(matrix(space), built(space, gr1_sees))


def test_gr1_queries_leave_exactly():
    policy = plan_of("gr1", "full").queries["policy"]
    assert policy.answerable == "exact"


@pytest.mark.parametrize("name, slots", [("gr1", 9), ("dreamvla", 16)])
def test_slots_read_their_own_view(name, slots):
    space = space_of(plan_of(name, "tiny"), "resampler")
    want = built(space, lambda *pair: resampler_sees(*pair, slots=slots, cells=4))
    assert np.array_equal(matrix(space), want)


@pytest.mark.parametrize("size", SIZES)
def test_dreamvla(size):
    space = space_of(plan_of("dreamvla", size), "gpt")
    assert np.array_equal(matrix(space), built(space, dreamvla_sees))


@pytest.mark.parametrize(
    "name, trunk, rule",
    [
        ("rynnvla_002", "lm", worldvla_sees),
        ("up_vla", "showo", up_vla_sees),
        ("f1_vla", "experts", f1_sees),
    ],
)
def test_masks_are_those_of_the_code(name, trunk, rule):
    space = space_of(plan_of(name, "tiny"), trunk)
    assert np.array_equal(matrix(space), built(space, rule))


def test_emu3_is_causal_in_each_layout():
    space = space_of(plan_of("univla_emu3", "tiny"), "lm")
    order = tuple(tokens_of(space))
    want = built(space, lambda *pair: causal(*pair, order=order, apart="clip"))
    assert np.array_equal(matrix(space), want)


def test_what_the_plan_finds():
    answers = {
        name: {query: answer.answerable for query, answer in plan_of(name, "tiny").queries.items()}
        for name in ("up_vla", "rynnvla_002", "flare")
    }
    assert answers["up_vla"] == {"policy": "approximate", "imagine": "exact"}
    assert answers["rynnvla_002"] == {
        "policy": "exact", "controllable": "exact", "discrete": "exact",
    }  # fmt: skip
    assert answers["flare"] == {"policy": "exact"}
