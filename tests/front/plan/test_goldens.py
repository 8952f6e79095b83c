"""What `plan` and `draw` print for the paradigms, byte for byte."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.front.plan.specs import PARADIGMS, example
from tests.rules import ROOT
from wmdsl.plan.as_json import to_json
from wmdsl.plan.as_text import WIDTH, to_text
from wmdsl.plan.draw import drawing_of, mask_svg, mask_text, to_mermaid, to_svg
from wmdsl.plan.draw import to_text as graph_text
from wmdsl.plan.nodes import Plan

GOLDENS = Path(__file__).parent / "goldens"
NAMES = sorted(path.stem for path in PARADIGMS.glob("*.wm"))


def specs(*folders: str) -> list[str]:
    """Paths below `examples` of all specs of some folders."""
    examples = ROOT / "examples"
    found = sorted(path for folder in folders for path in (examples / folder).glob("*.wm"))
    return [str(path.relative_to(examples)) for path in found]


@pytest.fixture(autouse=True)
def _at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def unsigned(plan: Plan) -> Plan:
    """The plan without its hash, which every new word of the vocabulary changes."""
    return replace(plan, model=replace(plan.model, sha256="0" * 64))


@pytest.mark.parametrize("name", NAMES)
def test_report(name, golden):
    text = to_text(unsigned(example(f"paradigms/{name}.wm")))
    golden(GOLDENS / f"{name}.txt", text)
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("name", NAMES)
def test_data(name, golden):
    data = to_json(unsigned(example(f"paradigms/{name}.wm")))
    golden(GOLDENS / f"{name}.json", json.dumps(data, indent=1) + "\n")


@pytest.mark.parametrize("name", ["mot", "idm", "latent"])
def test_pictures(name, golden):
    plan = example(f"paradigms/{name}.wm")
    drawing = drawing_of(plan)
    golden(GOLDENS / f"{name}.svg", to_svg(drawing))
    golden(GOLDENS / f"{name}_mask.svg", mask_svg(plan.train))
    golden(GOLDENS / f"{name}.mmd", to_mermaid(drawing))
    golden(GOLDENS / f"{name}_graph.txt", graph_text(drawing))


@pytest.mark.parametrize("path", specs("paradigms", "hybrids"))
def test_everything_can_be_printed_and_drawn(path):
    check_printed(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", specs("atlas", "references"))
def test_published_systems_can_be_printed_and_drawn(path):
    check_printed(path)


def check_printed(path: str) -> None:
    plan = example(path)
    data = json.loads(json.dumps(to_json(plan)))
    assert data["format_version"] == 1
    assert set(data["canonical_queries"]) == {
        "policy", "passive_world_model", "controllable_world_model", "inverse_dynamics",
    }  # fmt: skip
    for query in plan.queries:
        assert to_text(plan, query).startswith(query)
    if plan.train.spaces:
        drawing = drawing_of(plan)
        for picture in (to_svg(drawing), mask_svg(plan.train)):
            assert ElementTree.fromstring(picture).tag.endswith("svg")
        assert mask_text(plan.train.spaces).count("tokens") == len(plan.train.spaces)
        assert to_mermaid(drawing).count("\n") > len(drawing.nodes)
