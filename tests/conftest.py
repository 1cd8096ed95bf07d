"""What holds for all tests."""

import pytest


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    """Nothing says how wide a terminal is, wherever the tests run."""
    monkeypatch.delenv("COLUMNS", raising=False)
