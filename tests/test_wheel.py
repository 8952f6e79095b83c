"""The wheel carries all that the package reads at run time."""

import subprocess
import sys
import zipfile

import pytest

from tests.rules import ROOT


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder, ROOT)
    subprocess.run([sys.executable, "-m", "pip", *map(str, build)], check=True)
    (wheel,) = folder.glob("wmdsl-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def files_of(folder: str) -> set[str]:
    paths = (ROOT / folder).rglob("*")
    kept = (path for path in paths if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT / folder).as_posix() for path in kept}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "package"),
    [
        ("wmdsl", "wmdsl"),
        ("kernels/wmdsl_kernels", "wmdsl_kernels"),
        ("grammars", "wmdsl/_grammars"),
    ],
)
def test_every_file_of_a_package_is_in_the_wheel(wheel_files, folder, package):
    assert {f"{package}/{name}" for name in files_of(folder)} <= wheel_files
