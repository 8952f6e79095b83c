"""`wmdsl plan`, `wmdsl draw` and `wmdsl diff` as commands."""

import json
import os
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


def test_diff_says_in_five_lines_what_a_reader_wants_to_know(capsys):
    fast, joint = "examples/atlas/fast_wam.wm", "examples/atlas/fast_wam_joint.wm"
    assert main(["diff", fast, joint]) == 0
    assert capsys.readouterr().out.partition("\n\n")[0] == """\
in short
  written   action sees action, camera.now -> action sees action, camera; + query joint: \
camera.future, action | camera.now, text, proprio
  coupling  mot; visual branch at inference dropped -> active
  policy    130 tokens, 2.03 TFLOP, exact -> 326 tokens, 19.4 TFLOP, exact
  training  2.85 TFLOP a sample; 67.2 % of pairs seen -> 73.1 % of pairs seen
  weights   all load"""


def test_diff_names_the_weights_that_start_anew(capsys, tmp_path):
    wider = tmp_path / "wider.wm"
    wider.write_text(
        f'edition 2026\nimport "{os.path.abspath(MOT)}" as base\n'
        "model wider extends base.mot {\n  override trunk doer: dit { width 96 }\n}\n"
    )
    assert main(["diff", MOT, str(wider)]) == 0
    assert "weights   trunk.doer" in capsys.readouterr().out.partition("\n\n")[0]
