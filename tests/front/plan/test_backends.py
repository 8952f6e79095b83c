"""`wmdsl plan` says which attention back end runs each space, and why the others refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.rules import ROOT
from wmdsl.tools.backends import dispatches
from wmdsl.tools.cli import main
from wmdsl.tools.plan import plan
from wmdsl_kernels import toolchain

MOT = str(ROOT / "examples" / "paradigms" / "mot.wm")


@pytest.fixture(autouse=True)
def _a_machine_with_a_compiler(monkeypatch):
    monkeypatch.setattr(toolchain, "compiler_missing", lambda: None)


def by_place(found):
    return {(entry.passes, entry.device): entry for entry in found}


def test_a_mask_is_run_by_our_kernels_and_the_others_say_why_not(capsys):
    assert main(["plan", MOT]) == 0
    text = capsys.readouterr().out
    section = text[text.index("attention back ends in float32") :].splitlines()
    at = section.index("  experts (training) on cpu")
    assert section[at + 1 : at + 3] == [
        "    runs on cpu",
        "    not sdpa: the schedule is not one dense rectangle",
    ]
    assert "    not xformers: runs on cuda, not on cpu" in section
    assert "  experts (training) on cuda" in section


def test_every_space_has_a_back_end_on_both_devices():
    found = dispatches(plan(MOT, {}), "bfloat16")
    assert {entry.device for entry in found} == {"cpu", "cuda"}
    assert {name for entry in found for name in entry.passes} >= {"training", "policy", "inverse"}
    assert all(entry.runs for entry in found)
    assert by_place(found)[("training",), "cuda"].runs == "triton"


def test_without_a_compiler_rectangles_run(monkeypatch):
    monkeypatch.setattr(toolchain, "compiler_missing", lambda: "there is no C++ compiler")
    entry = by_place(dispatches(plan(MOT, {}), "float32"))[("training",), "cpu"]
    assert entry.runs == "rectangles"
    assert ("cpu", False, "there is no C++ compiler") in entry.verdicts


@pytest.mark.parametrize(("dtype", "runs"), [("float16", "cpu"), ("float64", "rectangles")])
def test_a_cpu_runs_every_dtype(dtype, runs):
    entry = by_place(dispatches(plan(MOT, {}), dtype))[("training",), "cpu"]
    assert entry.runs == runs


@pytest.fixture
def dense(tmp_path):
    """A spec without a mask: one space of 42 tokens and 4 heads."""
    text = Path(MOT).read_text()
    lines = text[: text.index("  attend {")] + text[text.index("  generate foresight") :]
    file = tmp_path / "dense.wm"
    file.write_text(lines.replace("lib/arm.wm", str(ROOT / "examples/paradigms/lib/arm.wm")))
    return str(file)


def test_a_dense_space_is_torchs_own(dense):
    assert {entry.runs for entry in dispatches(plan(dense, {}), "float32")} == {"sdpa"}


def test_it_says_from_which_batch_on_another_back_end_runs(dense, capsys):
    assert main(["plan", dense]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("  experts (training) on cpu")
    assert lines[at + 1] == f"    runs on sdpa (cpu from a batch of {-(-1024 // (42 * 4))})"
    assert lines[lines.index("  experts (training) on cuda") + 1] == "    runs on sdpa"
    assert main(["plan", dense, "--json"]) == 0
    records = json.loads(capsys.readouterr().out)["attention_backends"]
    later = {record["device"]: record["batched"] for record in records}
    assert later == {"cpu": {"runs": "cpu", "from": 7}, "cuda": None}


def test_no_batch_is_named_where_the_other_back_end_refuses(dense, monkeypatch):
    monkeypatch.setattr(toolchain, "compiler_missing", lambda: "there is no C++ compiler")
    assert not any(entry.batched for entry in dispatches(plan(dense, {}), "float32"))


def test_one_query_and_the_data_form(capsys):
    assert main(["plan", MOT, "--query", "policy", "--json", "--dtype", "bfloat16"]) == 0
    records = json.loads(capsys.readouterr().out)["attention_backends"]
    assert {tuple(record["passes"]) for record in records} == {("policy",)}
    assert {record["dtype"] for record in records} == {"bfloat16"}
    assert records[0]["refusals"]["triton"] == "runs on cuda, not on cpu"
