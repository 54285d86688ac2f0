"""Fixtures that several test files use."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run side by side, one per core: threads of their own would only be in the way.
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_MOST_WORKERS = 8
# Begun first, so that no worker is left with one of them when the others have nothing more to do.
_LONGEST = {f"test_{name}.py" for name in ("suites", "executors", "train", "resume", "explain_cli")}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Workers of ``-n auto``: one per core, as long as they fit into memory."""
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return min(len(allowed), _MOST_WORKERS)


def pytest_configure(config: pytest.Config) -> None:
    """Hand out files in the order of collection, not by their number of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, otherwise as they are."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


def pytest_collection_finish() -> None:
    """Keep the memory probe's garbage collections from walking through what imports made."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def shared_data() -> Path:
    """Folder with development copies of the real data sets; skips the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data, which is absent")
    return SHARED_DATA
