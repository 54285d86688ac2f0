"""Stored adversarial images: written, read, re-evaluated, and tampered with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robustbench_snn import load_dataset, load_model
from robustbench_snn.errors import UsageError
from robustbench_snn.suites.images import image_path, read_images, write_images
from robustbench_snn.suites.reevaluate import other_batch_size, reevaluate
from robustbench_snn.suites.standing import ImageFile
from robustbench_snn.verify import main

MODEL = "sdt-tiny.digit-scenes"


def test_images_come_back_as_they_were(tmp_path):
    x = np.random.default_rng(0).random((3, 3, 4, 4), dtype=np.float32)
    path = image_path("m/odd name", "d", 0, 3, "k" * 64)
    digest = write_images(tmp_path, path, ["a", "b", "c"], x, levels=True)
    found = read_images(tmp_path, path, digest)
    assert found.ids == ["a", "b", "c"]
    assert np.array_equal(found.x, x)
    assert np.abs(found.rounded - x).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(np.rint(found.rounded * 255), np.rint(x * 255))
    frames = image_path("m", "d", 3, 6, "k" * 64)
    write_images(tmp_path, frames, ["a", "b", "c"], 5 * x, levels=False)
    assert read_images(tmp_path, frames).rounded is None


def test_damaged_or_missing_images_are_told(tmp_path):
    x = np.zeros((1, 3, 2, 2), dtype=np.float32)
    path = image_path("m", "d", 0, 1, "k" * 64)
    digest = write_images(tmp_path, path, ["a"], x, levels=True)
    file = Path(tmp_path, path)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UsageError, match="sha256 differs"):
        read_images(tmp_path, path, digest)
    with pytest.raises(UsageError, match="cannot be read"):
        read_images(tmp_path, path)
    with pytest.raises(UsageError, match="are not in"):
        read_images(tmp_path, path.replace("m/", "n/"))


def test_rounding_images_on_the_grid_stays_within_whole_levels(tmp_path):
    """x on the 8-bit grid and eps whole levels: the nearest level is never outside the ball."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (4, 3, 8, 8)).astype(np.float32) / 255
    eps = 8 / 255
    adversarial = np.clip(x + eps * (2 * generator.random(x.shape, dtype=np.float32) - 1), 0, 1)
    path = image_path("m", "d", 0, 4, "k" * 64)
    write_images(tmp_path, path, list("abcd"), adversarial, levels=True)
    assert np.abs(read_images(tmp_path, path).rounded - x).max() <= eps + 1e-6


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_the_clean_pass_takes_another_batch_size(size):
    assert other_batch_size(size) != size


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Eight scenes, three of which have an 'adversarial' image: another class's scene, or none."""
    root = tmp_path_factory.mktemp("images")
    model, batch = load_model(MODEL), load_dataset("digit-scenes").batch(range(8))
    found = model(_tensor(batch.x)).argmax(1).numpy()
    wrong = np.roll(batch.x, 1, axis=0)
    path = image_path(MODEL, "digit-scenes", 0, 8, "k" * 64)
    rows = [1, 3, 6]
    digest = write_images(root, path, [batch.ids[row] for row in rows], wrong[rows], levels=True)
    file = ImageFile(path, digest, "linf", 1.0)
    files = [file if row in rows else None for row in range(8)]
    return root, model, batch, found == batch.y, files


def _tensor(x):
    import torch

    return torch.from_numpy(x)


def test_outcomes_are_those_of_the_images(stored):
    root, model, batch, clean, files = stored
    found = reevaluate(model, batch.x, batch.y, batch.ids, files, root, 3)
    assert np.array_equal(found.clean, clean)
    moved = np.array([file is not None for file in files])
    assert np.array_equal(found.robust[~moved], clean[~moved])
    assert not found.robust[moved].any() or (batch.y == np.roll(batch.y, 1))[moved].any()
    assert found.outside == ()
    again = reevaluate(model, batch.x, batch.y, batch.ids, files, root, 8)
    assert np.array_equal(again.robust, found.robust)


def test_an_image_outside_its_budget_does_not_count(stored):
    root, model, batch, clean, files = stored
    tight = [file and replace(file, eps=1e-3) for file in files]
    found = reevaluate(model, batch.x, batch.y, batch.ids, tight, root, 4)
    assert len(found.outside) == 3
    assert np.array_equal(found.robust, clean)


def test_bad_input(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "holds no finished suite" in capsys.readouterr().err
