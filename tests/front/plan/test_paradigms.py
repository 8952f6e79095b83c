"""The row of the table: derived from the graph, blind to names."""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.front.plan.specs import ONE_TRUNK, POLICY, TWO_TRUNKS, example, plan_of
from tests.rules import ROOT
from wmdsl.check import check
from wmdsl.diagnostics import Diagnostics
from wmdsl.plan import build_plan
from wmdsl.plan.as_json import to_json
from wmdsl.plan.nodes import Plan
from wmdsl.resolve import resolve
from wmdsl.source import Source
from wmdsl.syntax import ast, parse

ROWS = {
    "paradigms/idm.wm": ("idm", 2, "pixel", ("hand",), "active"),
    "paradigms/latent.wm": ("latent", 1, "latent", ("align",), "none"),
    "paradigms/mot.wm": ("mot", 5, "pixel", ("joint_attention",), "active"),
    "paradigms/no_world_model.wm": ("none", 6, "control", (), "none"),
    "paradigms/single_backbone.wm": ("single_backbone", 4, "pixel", ("concat",), "active"),
    "paradigms/unified_vla.wm": ("unified_vla", 3, "pixel", ("concat",), "dropped"),
    "hybrids/idm_aligned.wm": ("idm", 2, "pixel", ("hand",), "active"),
    "hybrids/latent_video.wm": ("single_backbone", 4, "pixel", ("concat",), "dropped"),
    "hybrids/mot_fast.wm": ("mot", 5, "pixel", ("joint_attention",), "dropped"),
    "hybrids/mot_latent.wm": ("latent", 1, "latent", ("align",), "none"),
    "atlas/fast_wam.wm": ("mot", 5, "latent", ("joint_attention",), "dropped"),
    "atlas/fast_wam_joint.wm": ("mot", 5, "latent", ("joint_attention",), "active"),
    "atlas/lingbot_va.wm": ("single_backbone", 4, "latent", ("concat",), "active"),
    "atlas/vla_jepa.wm": ("latent", 1, "latent", ("align",), "none"),
    "atlas/worldvla.wm": ("unified_vla", 3, "latent", ("concat",), "dropped"),
    "atlas/visualpredicator.wm": ("latent", 1, "symbolic", ("symbols",), "none"),
}


@pytest.mark.parametrize("path", ROWS)
def test_the_row_of_every_example(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    row = example(path).paradigm
    found = (row.id, row.rule, row.level, row.mechanism, row.visual_at_inference)
    assert found == ROWS[path]
    assert row.because


FLOWS = "generate foresight: camera.future by flow\n generate act: action by flow"
DOER = "trunk doer: dit { layers 2; width 16; heads 2x16; tokens joints, action }"


@pytest.mark.parametrize(
    "read, id",
    [
        ("cross read: tap(seer, layer 2) -> doer", "mot"),
        ("cross read: tap(seer, layer 2, at 1, stop) -> doer", "idm"),
        ("cross read: eyes(camera.now) -> doer", "none"),
    ],
)
def test_a_tap_without_gradient_is_an_interface(read, id):
    assert plan_of(TWO_TRUNKS, DOER, read, FLOWS, POLICY).paradigm.id == id


@pytest.mark.parametrize(
    "query, visual",
    [
        (POLICY, "active"),
        (POLICY + " { pinned camera.future }", "reducible"),
        (POLICY + " { steps 1 }", "reducible"),
    ],
)
def test_what_becomes_of_the_visual_branch(query, visual):
    assert plan_of(ONE_TRUNK, FLOWS, query).paradigm.visual_at_inference == visual


def test_a_future_that_is_sought_but_not_needed_is_optional():
    rows = """
      attend {
        task, camera.now, joints sees task, camera.now, joints
        camera.future sees task, camera.now, joints, camera.future
        action sees task, camera.now, joints, action
      }
    """
    both = POLICY.replace("action |", "action, camera.future |")
    plan = plan_of(ONE_TRUNK, rows, FLOWS, both)
    assert plan.paradigm.visual_at_inference == "optional"
    assert plan.factorisation == "p(o'|o,l) p(a|o,l)"


# names do not matter

NEUTRAL = ("type", "at", "kind", "by", "reference")  # clauses whose words are vocabulary
NAMED = ("stream", "codec", "trunk", "join", "cross", "condition", "align", "hand", "generate",
         "query", "attend")  # fmt: skip


def renamed(node, names: Mapping[str, str]):
    """The tree with every declared name replaced, wherever it is declared or referred to."""
    if isinstance(node, ast.Name):
        return replace(node, text=names.get(node.text, node.text))
    if isinstance(node, ast.Reference):
        path = tuple(names.get(part, part) for part in node.path)
        return replace(node, path=path, index=renamed(node.index, names))
    if isinstance(node, ast.Clause) and node.role in NEUTRAL:
        return node
    if isinstance(node, ast.Attribute):
        return replace(node, items=renamed(node.items, names))
    if isinstance(node, tuple):
        return tuple(renamed(part, names) for part in node)
    if is_dataclass(node):
        parts = {field.name: getattr(node, field.name) for field in fields(node)}
        changed = {
            name: renamed(part, names)
            for name, part in parts.items()
            if name != "span" and (isinstance(part, tuple) or is_dataclass(part))
        }
        return replace(node, **changed)
    return node


def planned(file: ast.File) -> Plan:
    diagnostics = Diagnostics()
    model = check(resolve(file, {}, diagnostics), diagnostics)
    assert not diagnostics.has_errors, [entry.message for entry in diagnostics]
    return build_plan(model, diagnostics)


def canonical_file(path: str) -> tuple[ast.File, list[str]]:
    """An example as one self-contained file, and the names that it declares."""
    text = example(path).model.canonical
    file = parse(Source("x.wm", text), Diagnostics())
    entries = file.models[0].entries
    declared = [
        entry.name.text
        for entry in entries
        if isinstance(entry, ast.Declaration)
        and entry.form in NAMED
        and entry.name.text != "attend"
    ]
    return file, list(dict.fromkeys(declared))


def without_names(plan: Plan, names: Mapping[str, str]) -> dict:
    """What is derived, with the new names put back and hashes left out."""
    back = {new: old for old, new in names.items()}
    words = re.compile(r"\b(" + "|".join(map(re.escape, back)) + r")\b") if back else None

    def restored(value):
        if isinstance(value, str):
            return words.sub(lambda found: back[found.group()], value) if words else value
        if isinstance(value, dict):
            return {restored(key): restored(part) for key, part in value.items()}
        return [restored(part) for part in value] if isinstance(value, list) else value

    return {key: part for key, part in restored(to_json(plan)).items() if key != "spec_sha256"}


FRESH = [f"{letter}{number}" for letter in "zyxwvu" for number in range(9)]


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
@pytest.mark.parametrize("path", [path for path in ROWS if not path.startswith("atlas")])
def test_renaming_everything_changes_nothing(path, monkeypatch, data):
    monkeypatch.chdir(ROOT)
    file, declared = canonical_file(path)
    fresh = data.draw(st.permutations(FRESH))[: len(declared)]
    names = dict(zip(declared, fresh, strict=True))
    assert without_names(planned(renamed(file, names)), names) == without_names(planned(file), {})
