"""Every plan that a test builds is verified."""

import pytest


@pytest.fixture(autouse=True)
def _verified(monkeypatch):
    monkeypatch.setenv("WMDSL_VERIFY", "1")
