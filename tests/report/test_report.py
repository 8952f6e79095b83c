"""The report: one file whose every number comes from the runs' files."""

import json
import re
import shutil

import pytest

from tests.runtime.conftest import SETTINGS, fresh_module, write_dataset
from wmdsl.report import write_report
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
