"""Published faults end in one of three ways: diagnosed, unsayable, or guaranteed by a test."""

import re

import pytest

from tests.front.check.spec import EXAMPLES
from tests.front.check.test_mistakes import diagnose
from tests.front.mistakes import expected, places
from wmdsl.diagnostics.render import to_text
from wmdsl.source import Source

ROOT = EXAMPLES.parent
FAULTS = sorted(path for path in (EXAMPLES / "faults").iterdir() if path.is_dir())
DIAGNOSED = [path for path in FAULTS if (path / "bad.wm").is_file()]
TOLD = [path for path in FAULTS if (path / "fault.md").is_file()]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROOF = re.compile(r"^- `([\w/]+\.py)::(test_\w+)`$", re.MULTILINE)


def read(path) -> Source:
    return Source(path.name, path.read_text(encoding="utf-8"))


def test_every_fault_is_there_and_ends_in_one_way():
    assert [path.name[:2] for path in FAULTS] == [f"{number:02}" for number in range(1, 28)]
    assert sorted(DIAGNOSED + TOLD) == FAULTS


@pytest.mark.parametrize("path", DIAGNOSED, ids=lambda path: path.name)
def test_a_diagnosed_fault(path):
    wanted = expected(path / "bad.wm")
    assert len(wanted) == 1
    assert places(diagnose(read(path / "bad.wm"))) == wanted
    assert places(diagnose(read(path / "good.wm"))) == []


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.name)
def test_a_fault_that_cannot_be_said_or_cannot_happen(path):
    page = (path / "fault.md").read_text(encoding="utf-8")
    if "\nUnsayable. " in page:
        (_, spec), (_, report) = FENCE.findall(page)
        told, _, _ = to_text(diagnose(Source("try.wm", spec))).partition("\n   |\n   =")
        assert told + "\n" == report  # the help lists words, and there will be more of them
        return
    assert "\nGuaranteed. " in page
    proofs = PROOF.findall(page)
    assert proofs
    for file, test in proofs:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")
