"""The emitted text: goldens, the same bytes for the same spec, lint, what it imports."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wmdsl
from tests.cpu.conftest import PARADIGMS, ROOT, SPECS

HYBRIDS = ROOT / "examples" / "hybrids"
EXAMPLES = sorted(path for folder in (PARADIGMS, HYBRIDS) for path in folder.glob("*.wm"))
GOLDENS = Path(__file__).parent / "golden"
ALL = [*EXAMPLES, *sorted(SPECS.glob("*.wm"))]
IDS = [path.stem for path in ALL]


def golden_of(path: Path) -> Path:
    """Beside the spec where it is a test's own, in `golden` where it is an example."""
    return path.with_suffix(".py") if path.parent == SPECS else GOLDENS / f"{path.stem}.py"


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_golden(path, golden):
    golden(golden_of(path), wmdsl.emit(path))


def test_goldens_have_their_specs():
    found = {path for folder in (GOLDENS, SPECS) for path in folder.glob("*.py")}
    assert found == {golden_of(path) for path in ALL}


def test_goldens_stand_in_ruff_format():
    answer = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--no-cache", "--diff", GOLDENS, SPECS],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout


def test_equal_specs_give_equal_bytes(tmp_path):
    text = (SPECS / "masked.wm").read_text()
    other = tmp_path / "renamed.wm"
    shuffled = text.replace("layers 2; width 32;", "width 32 // a remark\n    layers 2;")
    other.write_text("// Another file.\n\n" + shuffled.replace("  trunk", "\n\n  trunk"))
    assert wmdsl.emit(other) == wmdsl.emit(SPECS / "masked.wm")


def test_another_spec_gives_another_header(tmp_path):
    other = tmp_path / "masked.wm"
    other.write_text((SPECS / "masked.wm").read_text().replace("width 32", "width 64"))
    assert wmdsl.emit(other).splitlines()[2] != wmdsl.emit(SPECS / "masked.wm").splitlines()[2]


def imports_of(text: str) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)]
    froms = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    modules = {alias.name for node in nodes for alias in node.names}
    return {name.split(".")[0] for name in modules | {node.module for node in froms}}


@pytest.mark.parametrize("path", ALL, ids=IDS)
def test_imports(path):
    allowed = set(sys.stdlib_module_names) | {"torch"}
    assert imports_of(wmdsl.emit(path, standalone=True)) <= allowed
    assert imports_of(wmdsl.emit(path)) <= allowed | {"wmdsl_kernels"}


def test_emitting_needs_no_torch():
    code = (
        "import sys, wmdsl; wmdsl.emit(sys.argv[1]); "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code, PARADIGMS / "mot.wm"], cwd=ROOT)
    assert answer.returncode == 0


def test_every_mask_is_visible():
    text = wmdsl.emit(PARADIGMS / "mot.wm")
    plan = wmdsl.plan(PARADIGMS / "mot.wm")
    (space,) = plan.train.spaces
    assert not space.dense
    assert re.search(rf"Schedule\.from_ranges\(\s*{space.tokens},\s*{space.tokens},", text)
    assert all(str(tuple(row)) in text for row in space.ranges)


def test_a_dense_mask_is_left_out():
    assert "Schedule" not in wmdsl.emit(SPECS / "masked.wm")
