"""`wmdsl plan`, `wmdsl draw` and `wmdsl diff` as commands."""

import json
from xml.etree import ElementTree

import pytest

from tests.rules import ROOT
from wmdsl.tools.cli import main

MOT = "examples/paradigms/mot.wm"
KEYS = ("format_version", "model", "edition", "spec_sha256", "streams", "trunks", "edges", "params",
        "mask", "paradigm", "factorisation", "queries", "canonical_queries")  # fmt: skip


@pytest.fixture(autouse=True)
def _at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_plan_as_data(capsys):
    assert main(["plan", MOT, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [key for key in data if key in KEYS] == list(KEYS)
    assert data["params"]["total"] == sum(data["params"]["by_owner"].values())
    assert data["paradigm"]["id"] == "mot"


def test_one_query(capsys):
    assert main(["plan", MOT, "--query", "policy"]) == 0
    assert "attention while action.future is generated" in capsys.readouterr().out
    assert main(["plan", MOT, "--query", "policy", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data["queries"]) == list(data["mask"]) == ["policy"]


def test_a_canonical_query_by_its_short_name(capsys):
    assert main(["plan", MOT, "--query", "passive"]) == 0
    assert capsys.readouterr().out.startswith("passive_world_model: corner.future |")


def test_a_query_that_is_not_there(capsys):
    assert main(["plan", MOT, "--query", "polcy"]) == 2
    assert "did you mean `policy`?" in capsys.readouterr().err


def test_parameters_change_the_plan(capsys):
    assert main(["plan", MOT, "-P", "chunk=32", "--json"]) == 0
    streams = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["streams"]}
    assert streams["action"]["segments"][0]["tokens"] == 32


def test_pictures_go_to_files(tmp_path, capsys):
    out = tmp_path / "graph"
    assert main(["draw", MOT, "--as", "svg,mermaid,text", "-o", str(out)]) == 0
    assert capsys.readouterr().out.count("wrote") == 3
    assert ElementTree.parse(out.with_suffix(".svg")).getroot().tag.endswith("svg")
    assert "flowchart LR" in out.with_suffix(".mmd").read_text()
    assert "joint attention" in out.with_suffix(".txt").read_text()


def test_the_mask_of_a_query(capsys):
    assert main(["draw", "examples/hybrids/mot_fast.wm", "--query", "policy"]) == 0
    text = capsys.readouterr().out
    assert "██" in text and "corner.future" not in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["examples/paradigms/lib/arm.wm"], "has no trunk"),
        ([MOT, "--mask", "--as", "mermaid"], "mermaid cannot draw a mask"),
        ([MOT, "--query", "nothing"], "no query `nothing` runs"),
    ],
)
def test_what_cannot_be_drawn(arguments, message, capsys):
    assert main(["draw", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_diff_says_what_follows(capsys):
    assert main(["diff", MOT, "examples/hybrids/mot_fast.wm"]) == 0
    text = capsys.readouterr().out
    assert "corner.future is deleted" in " ".join(text.split())
    assert "weights that load: codec.words" in text
