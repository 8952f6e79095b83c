"""Goldens: `pytest --accept` writes what the code gives now; read the diff before committing it.

Every plan that a test builds is verified (`wmdsl/plan/verify.py`).
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["WMDSL_VERIFY"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write goldens instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with the golden file at a path, or write that file under `--accept`."""

    def compare(path: Path, actual: str) -> None:
        if request.config.getoption("accept"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(actual, encoding="utf-8")
        assert path.is_file(), f"no golden {path}; `pytest --accept` writes it"
        assert actual == path.read_text(encoding="utf-8"), f"differs from {path}"

    return compare
