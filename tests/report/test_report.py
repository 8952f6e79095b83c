"""The report: one file whose every number comes from the runs' files."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest

import wmdsl
from tests.runtime.conftest import SETTINGS, fresh_module, write_dataset
from wmdsl.plan.as_json import to_json
from wmdsl.report import write_report
from wmdsl.report.faithfulness import _gain
from wmdsl.report.runs import Finished, group
from wmdsl.runtime.run import RunDirectory
from wmdsl.runtime.train import metrics, train


def result(successes: int) -> dict:
    return {"task": "suite/open", "instruction": "open", "success": successes / 50,
            "interval": [successes / 50 - 0.1, successes / 50 + 0.1], "successes": successes,
            "episodes": 50, "mean_steps": 70.0}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A trained run that was not evaluated."""
    root = tmp_path_factory.mktemp("report")
    data = write_dataset(root / "noise")
    return train(fresh_module(), data, root / "run", SETTINGS, progress=False)


@pytest.fixture
def runs(finished, tmp_path):
    """A sighted run with a swapped task, and a blind one."""
    made = []
    for name, blind, successes in (("seeing", False, 41), ("blind", True, 13)):
        path = tmp_path / name
        shutil.copytree(finished, path)
        training = json.loads((path / "train.json").read_text())
        training["settings"]["blind"] = blind
        (path / "train.json").write_text(json.dumps(training))
        evaluation = {"tasks": [result(successes)], "latency_ms": {"policy": 12.34}, "blind": blind}
        if not blind:
            evaluation["swapped"] = [result(7)]
        (path / "eval.json").write_text(json.dumps(evaluation))
        made.append(path)
    return made


def test_a_report_shows_success_controls_and_couplings(runs, tmp_path):
    page = write_report(runs, tmp_path / "report.html", "A title", "a summary").read_text()
    for cell in ("82 [72, 92]", "26 [16, 36]", "14 [4, 24]", "12.3 ms", "tiny, blind",
                 "tiny, instruction swapped", "single_backbone", "A title", "a summary",
                 "two streams in one trunk"):  # fmt: skip
        assert cell in page, cell
    assert page.count("<svg") >= 4
    assert "http" not in re.sub(
        r'xmlns(:\w+)?="[^"]*"|"http://www.w3.org[^"]*"', "", page.split("<svg")[0]
    )


def test_runs_are_grouped_by_model_with_their_controls(runs):
    (entry,) = group(Finished.read(path) for path in runs)
    assert len(entry.sighted) == len(entry.blind) == 1
    assert entry.sighted[0].tasks["suite/open"]["successes"] == 41


def test_a_run_without_evaluation_is_shown_as_such(finished, tmp_path):
    page = write_report([finished], tmp_path / "r.html", "t", "s").read_text()
    assert "tiny" in page and "82 [" not in page
    assert len(list(metrics(RunDirectory(finished)))) > 0


def suite_of(retrieval, hand):
    """A `faithful.json` with two horizons, of which the second is nearest to a second."""
    estimates = [[0.2, 0.1, 0.3], [retrieval, retrieval - 0.1, retrieval + 0.1]]
    hands = [[0.02, 0.01, 0.03], [hand, hand - 0.01, hand + 0.01]]
    copied = [[0.25, 0.25, 0.25]] * 2
    model = {"retrieval": estimates, "hand": hands, "sensitivity": [None, [1.5, 1.2, 1.8]],
             "first_beyond": 1.1, "rank_correlation": [0.5, 0.4, 0.6]}  # fmt: skip
    systems = {"model": model, "copy": {"retrieval": copied, "hand": hands, "first_beyond": 0.3},
               "simulator": {"retrieval": copied, "hand": [[0.01, 0.0, 0.02]] * 2}}  # fmt: skip
    return {"horizons": [0.4, 1.1], "streams": {"held": ["wrist"]},
            "environments": {"suite/open": {"situations": 4, "systems": systems}}}  # fmt: skip


@pytest.fixture
def compared(finished, tmp_path):
    """Four runs of one spec that was rolled out, and one of a spec that cannot be."""
    made = []
    for seed, (retrieval, hand, successes) in enumerate(
        [(0.3, 0.09, 5), (0.4, 0.08, 15), (0.5, 0.06, 25), (0.6, 0.07, 35)]
    ):
        path = tmp_path / f"tiny-{seed}"
        shutil.copytree(finished, path)
        training = json.loads((path / "train.json").read_text())
        training["settings"]["seed"] = seed
        (path / "train.json").write_text(json.dumps(training))
        evaluation = {"tasks": [result(successes)], "latency_ms": {"policy": 12.34}}
        (path / "eval.json").write_text(json.dumps(evaluation))
        (path / "faithful.json").write_text(json.dumps(suite_of(retrieval, hand)))
        made.append(path)
    plain = tmp_path / "plain"
    shutil.copytree(finished, plain)
    spec = Path("examples/paradigms/no_world_model.wm")
    model = wmdsl.plan(spec)
    (plain / "model.wm").write_text(model.model.canonical)
    (plain / "plan.json").write_text(json.dumps(to_json(model)))
    (plain / "eval.json").write_text(json.dumps({"tasks": [result(10)]}))
    return [*made, plain]


def test_faithfulness_stands_beside_success_and_cost(compared, tmp_path):
    page = write_report(compared, tmp_path / "report.html", "t", "s").read_text()
    found = json.loads((tmp_path / "faithful.json").read_text())
    first, *_, last = found["runs"]
    assert (first["horizon"], first["held"]) == (1.1, ["wrist"])
    assert last["systems"]["model"]["retrieval"][0] == 0.6
    assert first["success"] == {"successes": 5, "episodes": 50, "share": 0.1}
    assert found["correlation"]["retrieval"] == {"rho": 1.0, "runs": 4, "chance": 2 / 24}
    assert found["correlation"]["hand"]["rho"] == pytest.approx(0.8)
    (refused,) = found["not_asked"]
    assert refused["model"] == "no_world_model" and refused["because"] in html.unescape(page)
    tiny, plain = found["specs"]
    assert tiny["gain"][0] == pytest.approx(0.4 - 0.2) and plain["gain"] is None
    assert tiny["asked"]["controllable_world_model"] != "no"
    for cell in ("60.0 [50.0, 70.0]", "7.0 [6.0, 8.0]", "copy: 25.0", "1.50 [1.20, 1.80]",
                 "rank correlation 1.00 over 4 runs"):  # fmt: skip
        assert cell in page, cell


def test_newcombes_interval_of_a_difference():
    """The tabulated example of Newcombe (1998): 56/70 against 48/80."""
    shares = [{"successes": won, "episodes": of, "share": won / of} for won, of in
              ((56, 70), (48, 80))]  # fmt: skip
    assert _gain(*shares) == pytest.approx([0.2, 0.0524, 0.3339], abs=5e-5)


def test_without_the_suite_nothing_is_said_of_it(runs, tmp_path):
    page = write_report(runs, tmp_path / "report.html", "t", "s").read_text()
    assert "follow the actions" not in page and not (tmp_path / "faithful.json").exists()
