"""The atlas: every spec of a folder has a row, beside what others say of the system."""

import json
import os
import shutil

import pytest

from tests.rules import HEAVY, ROOT
from tests.test_startup import loaded_packages
from wmdsl.report.atlas import Facts, collect, table_of, to_html, to_text
from wmdsl.report.atlas.facts import Published, Talk
from wmdsl.report.atlas.unknowns import unknowns
from wmdsl.tools import cli

PARADIGMS = ROOT / "examples" / "paradigms"
ROWS = {"idm", "single_backbone", "mot", "unified_vla", "latent"}
BROKEN = "edition 2026\nmodel uva {\n  straem a: language\n}\n"
OPEN = """edition 2026

// A system.  Unknown: the rate, and
// the width.  All else is known.
// "unknown" stands in this sentence, too.
model open {
  stream text: language[32]  // its length is unknown
  stream note: language[32] { key "unknown // not a comment" }
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Paradigms under the names of systems: one agrees, one differs, one is broken."""
    folder = tmp_path_factory.mktemp("atlas")
    shutil.copytree(PARADIGMS / "lib", folder / "lib")
    for name, slug in {"idm": "unipi", "mot": "vpp", "latent": "flare_without_loss"}.items():
        shutil.copy(PARADIGMS / f"{name}.wm", folder / f"{slug}.wm")
    (folder / "uva.wm").write_text(BROKEN, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def entries(folder):
    return collect(folder)


@pytest.fixture(scope="module")
def table(entries):
    return table_of(entries, Facts.shipped())


def row(table, slug: str) -> dict:
    return next(row for row in table["rows"] if row["slug"] == slug)


def test_every_spec_has_a_row_in_the_order_of_the_talk(table):
    assert [row["slug"] for row in table["rows"]] == ["unipi", "vpp", "uva", "flare_without_loss"]
    summary = table["summary"]
    counted = [summary[key] for key in ("specs", "with_errors", "systems", "agree", "differ")]
    assert counted == [4, 1, 41, 1, 1]
    assert len(summary["without_spec"]) == 38 and "flare" in summary["without_spec"]


def test_the_derived_row_stands_beside_the_talks(table):
    assert row(table, "unipi")["agreement"] == "agrees"
    differing = row(table, "vpp")
    assert (differing["talk"], differing["agreement"]) == ("idm", "differs")
    assert differing["derived"]["paradigm"]["id"] == "mot"
    assert any("joint_attention" in why for why in differing["derived"]["paradigm"]["because"])
    variant = row(table, "flare_without_loss")
    assert variant["talk"] is variant["agreement"] is None


def test_a_spec_with_errors_is_shown_as_such(table, entries):
    broken = row(table, "uva")
    assert broken["derived"] is None and broken["agreement"] is None
    (error,) = broken["errors"]
    assert " uva.wm:3: " in error and "straem" in error
    assert error in to_text(table).replace("\n                  ", " ")
    assert "straem" in to_html(table, entries)


def test_a_query_tells_what_it_drops_and_what_it_never_runs(table):
    queries = row(table, "unipi")["derived"]["queries"]
    assert {"what": "action.future", "how": "deleted_exactly"} in queries["imagine"]["dropped"]
    assert set(queries["imagine"]["idle"]) == {"trunk.inverse", "head.act"}
    assert queries["policy"]["idle"] == {}
    assert (
        "align.foresight"
        in row(table, "flare_without_loss")["derived"]["queries"]["policy"]["idle"]
    )


def published(entries, counted: str, params: int, tolerance: float) -> dict:
    """How the count of `unipi` is compared with a published one."""
    said = Published("planner", params, tolerance, "paper", counted)
    table = table_of(entries, Facts({"unipi": Talk("UniPi", "idm")}, {"unipi": said}, {}))
    return row(table, "unipi")["derived"]["params"]["published"]


def test_parameters_are_compared_with_the_published_count(entries):
    plan = next(entry.plan for entry in entries if entry.slug == "unipi")
    total = plan.parameters.total
    same = published(entries, "all", total, 0.01)
    assert (same["derived"], same["deviation"], same["within"]) == (total, 0, True)
    assert published(entries, "trainable", total * 2, 0.1)["within"] is False
    one = published(entries, "trunk.dreamer head.act", total, 0.1)
    owners = plan.parameters.by_owner
    assert one["derived"] == owners["trunk.dreamer"] + owners["head.act"]
    assert published(entries, "trunk.absent", total, 0.1)["within"] is None


def test_unknowns_are_the_sentences_of_comments_that_say_so(tmp_path):
    (tmp_path / "open.wm").write_text(OPEN, encoding="utf-8")
    (tmp_path / "more.wm").write_text('edition 2026\nimport "open.wm" as base\n', encoding="utf-8")
    said = [
        "Unknown: the rate, and the width.",
        '"unknown" stands in this sentence, too.',
        "its length is unknown",
    ]
    assert list(unknowns(tmp_path / "open.wm")) == said
    assert list(unknowns(tmp_path / "more.wm")) == said


def test_the_text_keeps_to_its_width_and_names_the_reasons(table):
    text = to_text(table)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    for words in ("= idm", "≠ idm", "has errors", "where the talk says idm", "long 0.0"):
        assert words in text


def test_the_page_holds_a_graph_of_every_spec_with_a_plan(table, entries):
    page = to_html(table, entries)
    assert page.count("<svg") == 3
    for words in ("UniPi", "spec has errors", "where the talk says idm", "deleted_exactly"):
        assert words in page


def test_the_verb_writes_every_format(folder, tmp_path, capsys):
    out = tmp_path / "atlas.json"
    words = ["atlas", os.fspath(folder), "--format", "json", "-o", os.fspath(out)]
    assert cli.main(words) == 1  # one spec has errors
    assert json.loads(out.read_text(encoding="utf-8"))["format_version"] == 1
    assert cli.main(["atlas", os.fspath(folder), "--format", "html"]) == 1
    assert "<svg" in capsys.readouterr().out


def test_a_folder_without_specs_is_wrong_use(tmp_path, capsys):
    assert cli.main(["atlas", os.fspath(tmp_path)]) == 2
    assert "there is no spec in this folder" in capsys.readouterr().err


def test_the_verb_loads_no_heavy_package():
    assert not loaded_packages("atlas", os.fspath(PARADIGMS)) & HEAVY


def test_the_shipped_tables_speak_of_the_same_systems():
    facts = Facts.shipped()
    assert len(facts.talk) == 41
    assert {entry.paradigm for entry in facts.talk.values()} == ROWS
    assert set(facts.published) <= set(facts.talk) and set(facts.reported) <= set(facts.talk)
    assert all(0 < entry.tolerance <= 0.1 for entry in facts.published.values())
    assert facts.reported["unipi"] == {"long": 0.0}
