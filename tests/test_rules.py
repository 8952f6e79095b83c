"""The tree keeps its rules, and each rule can fail."""

import ast
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from tests import rules
from tests.rules import ROOT

TEST_TREES = {path: rules.parse(path) for path in rules.python_files("tests", "kernels")}
WMDSL_FILES = rules.python_files("wmdsl")
TEXT_SUFFIXES = set(
    ".py .wm .lark .md .toml .lock .cpp .h .json .csv .svg .html .jinja .txt".split()
)
SKIPPED_FOLDERS = {".venv", ".git", "runs", "data", "__pycache__"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def text_files() -> list[Path]:
    top = [path for path in ROOT.iterdir() if path.name not in SKIPPED_FOLDERS]
    found = [path for entry in top for path in (entry.rglob("*") if entry.is_dir() else [entry])]
    return sorted(p for p in found if p.suffix in TEXT_SUFFIXES and "__pycache__" not in p.parts)


def report(found: dict[Path, list[str]]) -> str:
    return "\n".join(f"{relative(path)}: {item}" for path, items in found.items() for item in items)


def test_imports_between_stages_point_forward_only():
    files = [path for path in WMDSL_FILES if path != ROOT / "wmdsl" / "__init__.py"]
    found = [arrow for p in files for arrow in rules.back_arrows(module_name(p), rules.parse(p))]
    assert files
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import wmdsl.plan.build",
        "from wmdsl.emit import emit",
        "from wmdsl import driver",
        "def late():\n    from wmdsl.tools import cli",
    ],
)
def test_a_back_arrow_is_found(source):
    assert rules.back_arrows("wmdsl.check.shapes", ast.parse(source))


def test_a_forward_arrow_and_a_folder_without_a_stage():
    assert not rules.back_arrows("wmdsl.check.shapes", ast.parse("from wmdsl.syntax import ast"))
    assert rules.back_arrows("wmdsl.misc.things", ast.parse(""))


def test_front_end_stages_name_no_heavy_package():
    front = [p for p in WMDSL_FILES if rules.stage_of(module_name(p)) in rules.FRONT_STAGES]
    heavy = rules.HEAVY | {"wmdsl_kernels"}
    found = {p: rules.packages_imported(rules.parse(p), heavy) for p in front}
    assert front
    assert not any(found.values()), report(found)


def test_a_heavy_import_is_found_where_it_hides_in_a_function():
    tree = ast.parse("def lazily():\n    from torch.nn import functional")
    assert rules.packages_imported(tree, rules.HEAVY) == ["line 2: imports torch"]


def test_the_kernels_stand_alone():
    found = {p: rules.packages_imported(t, {"wmdsl"}) for p, t in TEST_TREES.items()}
    found = {path: items for path, items in found.items() if path.is_relative_to(ROOT / "kernels")}
    assert found
    assert not any(found.values()), report(found)
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_every_imported_package_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    declared = rules.declared_packages([*project["dependencies"], *chain.from_iterable(extras)])
    # Extras that the development environment leaves out, imported where they are used.
    declared |= {"libero", "robosuite", "transformers", "diffusers"}
    files = rules.python_files("wmdsl", "kernels/wmdsl_kernels")
    found = {path: rules.undeclared_packages(rules.parse(path), declared) for path in files}
    assert not any(found.values()), report(found)


def test_an_undeclared_package_is_found():
    declared = rules.declared_packages(["numpy>=2", "PyOpenGL"])
    assert {"numpy", "OpenGL"} <= declared
    assert rules.undeclared_packages(ast.parse("import os, numpy, scipy"), declared)


def test_imports_are_absolute():
    files = rules.python_files("wmdsl", "kernels", "tests")
    found = {path: rules.relative_imports(rules.parse(path)) for path in files}
    assert not any(found.values()), report(found)
    assert rules.relative_imports(ast.parse("from . import errors"))


def test_no_path_of_somebodys_machine():
    found = {
        p: rules.machine_paths(p.read_text(encoding="utf-8", errors="ignore")) for p in text_files()
    }
    assert not any(found.values()), report(found)


def test_a_machine_path_is_found_and_an_address_is_not():
    assert rules.machine_paths("open('/" + "home/someone/x')")
    assert not rules.machine_paths("see https://example.org/home/page and ./work/x")


def test_nothing_is_left_to_do():
    files = [path for path in text_files() if path != ROOT / "tests" / "rules.py"]
    found = {p: rules.placeholders(p.read_text(encoding="utf-8", errors="ignore")) for p in files}
    assert not any(found.values()), report(found)
    assert rules.placeholders("# TO" + "DO: later")


def test_every_test_asserts_something():
    asserting = rules.asserting_functions(TEST_TREES.values())
    found = {path: rules.idle_tests(tree, asserting) for path, tree in TEST_TREES.items()}
    assert not any(found.values()), report(found)


def test_an_idle_test_is_found():
    tree = ast.parse("def test_idle():\n    run()\n\ndef run():\n    pass\n")
    assert rules.idle_tests(tree, rules.asserting_functions([tree])) == ["line 1: test_idle"]


def test_a_test_may_assert_through_a_helper():
    tree = ast.parse("def test_it():\n    compare(1)\n\ndef compare(x):\n    assert x\n")
    assert not rules.idle_tests(tree, rules.asserting_functions([tree]))


def test_the_lock_pins_each_package_once_and_names_no_index():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    names = [line.partition("==")[0].lower() for line in pins]
    assert len(set(names)) == len(names)
    assert all("==" in line and "+" not in line and "/" not in line for line in pins)
    assert {"torch==2.13.0", "triton==3.7.1"} <= set(pins)


def test_what_the_wheel_includes_is_there():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]
    for folder in [*wheel["packages"], *wheel["force-include"]]:
        assert any((ROOT / folder).iterdir()), folder


def test_the_linter_is_content():
    answer = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--quiet", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
