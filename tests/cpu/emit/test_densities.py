"""The emitted file of log-densities: a golden, its imports, no more than what is answerable."""

import subprocess
import sys
from pathlib import Path

import wmdsl
from tests.cpu.conftest import ROOT
from tests.cpu.emit.test_emit import imports_of

SPEC = ROOT / "examples" / "hybrids" / "mot_fast.wm"
GOLDEN = Path(__file__).parent / "densities" / "mot_fast.py"


def test_golden(golden):
    golden(GOLDEN, wmdsl.emit(SPEC, log_density=True))


def test_the_golden_stands_in_ruff_format():
    command = [sys.executable, "-m", "ruff", "format", "--no-cache", "--diff", GOLDEN]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout


def test_torch_alone():
    text = wmdsl.emit(SPEC, log_density=True, standalone=True)
    assert imports_of(text) <= set(sys.stdlib_module_names) | {"torch"}


def test_only_what_is_answerable_is_emitted():
    text = wmdsl.emit(SPEC, log_density=True)
    plan = wmdsl.plan(SPEC)
    found = {name for name in plan.queries if f"def log_density_{name}(" in text}
    answered = {name for name, query in plan.queries.items() if query.density.answer != "no"}
    assert found == answered == {"policy", "joint", "controllable"}
