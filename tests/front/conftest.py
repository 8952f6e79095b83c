"""The front end never imports torch or numpy; this guard watches all of its tests."""

import sys

import pytest

HEAVY = ("torch", "triton", "pyarrow", "av")


@pytest.fixture(autouse=True)
def _no_heavy_import():
    before = {name for name in HEAVY if name in sys.modules}
    yield
    fresh = [name for name in HEAVY if name in sys.modules and name not in before]
    assert not fresh, f"a test of the front end imported {', '.join(fresh)}"
