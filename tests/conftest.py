"""Fixtures that several test files use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """Folder with development copies of the real data sets; skips the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data, which is absent")
    return SHARED_DATA
