"""What is called stored is on the disk: content first, then its name, then the folder."""

import os
import stat

import numpy as np
import pytest
from test_store import KEY, make_row

from robustbench_snn import store
from robustbench_snn.suites.images import image_path, read_images, write_images


@pytest.fixture
def events(monkeypatch):
    """('file', size) and ('folder', name) for each fsync, ('rename', name) for each replace."""
    found = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(handle):
        about = os.fstat(handle)
        if stat.S_ISDIR(about.st_mode):
            found.append(("folder", about.st_ino))
        else:
            found.append(("file", about.st_size))
        real_sync(handle)

    def replace(source, target):
        found.append(("rename", os.stat(source).st_size))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    return found


def test_a_row_is_on_the_disk_before_it_has_its_name(tmp_path, events):
    path = store.write_shard(tmp_path, KEY, make_row())
    size = path.stat().st_size
    assert events == [("file", size), ("rename", size), ("folder", path.parent.stat().st_ino)]


def test_images_are_on_the_disk_before_they_have_their_name(tmp_path, events):
    path = image_path("m.d", "d", 0, 2, KEY)
    x = np.zeros((2, 3, 4, 4), dtype=np.float32)
    digest = write_images(tmp_path, path, ["a", "b"], x, True)
    size = (tmp_path / path).stat().st_size
    folder = ("folder", (tmp_path / path).parent.stat().st_ino)
    assert events == [("file", size), ("rename", size), folder]
    assert read_images(tmp_path, path, digest).ids == ["a", "b"]
