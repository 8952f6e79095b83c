"""What one waits for: `check` and `plan` answer at once, because they never load torch."""

import os
import resource
import subprocess
import sys

import pytest

from tests import rules
from tests.rules import ROOT

SPECS = sorted((ROOT / "examples" / "paradigms").glob("*.wm"))

# `main` may return its exit status or leave by SystemExit: both end at the exit hook.
PROBE = """
import atexit, sys
atexit.register(lambda: print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules})))
from wmdsl.tools.cli import main
sys.exit(main(sys.argv[1:]))
"""


def loaded_packages(*arguments: str) -> set[str]:
    """Top-level packages in memory after the command line ran with these arguments."""
    answer = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return set(answer.stdout.splitlines()[-1].removeprefix("LOADED").split())


def seconds_of_work(*arguments: str) -> float:
    """The least processor time of three runs of the command line, interpreter start included.

    On an idle machine that is the wall time; unlike it, it does not grow with what runs beside.
    """

    def once() -> float:
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "wmdsl.tools.cli", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
            capture_output=True,
            check=True,
        )
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime

    return min(once() for _ in range(3))


def test_there_are_specs_to_measure():
    assert len(SPECS) >= 6


@pytest.mark.parametrize("verb", ["check", "plan", "canon", "fmt --check", "draw --as text"])
def test_the_front_end_loads_no_heavy_package(verb):
    assert not loaded_packages(*verb.split(), os.fspath(SPECS[0])) & rules.HEAVY


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_check_has_not_become_heavy(spec):
    # 0.3 s on an idle machine is the goal; twice that tells a heavy import from a noisy machine.
    assert seconds_of_work("check", os.fspath(spec)) <= 0.6


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_plan_has_not_become_heavy(spec):
    assert seconds_of_work("plan", os.fspath(spec)) <= 1.5
