"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Root of the real development data; tests that need it skip where it is absent."""
    root = Path(os.environ.get("MMMED_SHARED", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no development data at {root}; set MMMED_SHARED to its folder")
    return root
