"""Generation: determinism, independence of batch and order, and the traps of the official code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corruption_images import image
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from robustbench_snn.corruptions import (
    CORRUPTIONS,
    blur,
    corrupt,
    corrupt_batch,
    frost_textures,
    generator,
    weather,
    zoom,
)
from robustbench_snn.corruptions.constants import strength
from robustbench_snn.errors import UsageError


def batch(count: int, side: int) -> NDArray[np.float32]:
    pictures = np.stack([image(index, side) for index in range(count)])
    return (pictures.transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    x, ids = batch(4, 32), ["test/000003", "test/000009", "b", "c"]
    together = corrupt_batch(x, ids, name, 3, "cifar", seed=5)
    backwards = corrupt_batch(x[::-1], ids[::-1], name, 3, "cifar", seed=5)[::-1]
    alone = np.concatenate(
        [corrupt_batch(x[i : i + 1], ids[i : i + 1], name, 3, "cifar", seed=5) for i in range(4)]
    )
    assert np.array_equal(together, backwards)
    assert np.array_equal(together, alone)
    assert together.dtype == np.float32
    assert together.shape == x.shape
    assert together.min() >= 0
    assert together.max() <= 1
    assert not np.array_equal(together, x)


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "frost", "fog", "motion_blur"])
def test_seed_and_id_change_the_draw(name: str) -> None:
    x = batch(1, 32)
    first = corrupt_batch(x, ["a"], name, 5, "cifar", seed=0)
    assert not np.array_equal(first, corrupt_batch(x, ["a"], name, 5, "cifar", seed=1))
    assert not np.array_equal(first, corrupt_batch(x, ["b"], name, 5, "cifar", seed=0))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("severity", [1, 5])
def test_black_white_and_oblong_images_survive(name: str, severity: int) -> None:
    for value in (0, 255):
        flat = np.full((32, 48, 3), value, dtype=np.uint8)
        out = corrupt(flat, name, severity, "cifar", generator(0, name, severity, "flat"))
        assert out.shape == flat.shape
        assert out.dtype == np.uint8


def test_imagenet_preset_goes_through_jpeg_85_by_default() -> None:
    x = batch(1, 224)
    raw = corrupt_batch(x, ["a"], "contrast", 1, "imagenet", jpeg85=False)
    stored = corrupt_batch(x, ["a"], "contrast", 1, "imagenet")
    assert 0 < np.abs(raw - stored).mean() < 0.02
    assert np.array_equal(
        corrupt_batch(x[..., :32, :32], ["a"], "contrast", 1, "cifar"),
        corrupt_batch(x[..., :32, :32], ["a"], "contrast", 1, "cifar", jpeg85=False),
    )


def glass_by_the_published_loop(
    pixels: NDArray[np.uint8], reach: int, shifts: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """The sequential loop over views, in which the swap is really a copy."""
    x, draws = pixels.copy(), iter(shifts)
    height, width = x.shape[:2]
    for h in range(height - reach, reach, -1):
        for w in range(width - reach, reach, -1):
            dx, dy = next(draws)
            x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    return x


@pytest.mark.parametrize(("height", "width", "reach"), [(32, 32, 1), (30, 41, 3), (64, 64, 4)])
def test_glass_sources_equal_the_sequential_loop(height: int, width: int, reach: int) -> None:
    rng = np.random.default_rng(height)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    shifts = rng.integers(-reach, reach, ((height - 2 * reach) * (width - 2 * reach), 2))
    sources = blur.shuffle_sources(height, width, reach, shifts)
    ours = pixels.reshape(-1, 3)[sources].reshape(pixels.shape)
    assert np.array_equal(ours, glass_by_the_published_loop(pixels, reach, shifts))


@pytest.mark.parametrize("preset", ["cifar", "imagenet"])
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_zoom_equals_scipy_zoom(preset: str, severity: int) -> None:
    side = 32 if preset == "cifar" else 224
    x = image(severity, side) / 255.0
    stop, step = strength("zoom_blur", severity, preset)
    for factor in np.arange(1, stop, step):
        crop = int(np.ceil(side / factor))
        top = (side - crop) // 2
        part = x[top : top + crop, top : top + crop]
        wanted = ndimage.zoom(part, (factor, factor, 1), order=1)
        trim = (len(wanted) - side) // 2
        wanted = wanted[trim : trim + side, trim : trim + side]
        assert np.abs(zoom.clipped_zoom(x, float(factor)) - wanted).max() < 1e-15


def test_number_of_zooms_keeps_the_float_ends_of_arange() -> None:
    counts = {
        preset: [len(np.arange(1, *strength("zoom_blur", s, preset))) for s in range(1, 6)]
        for preset in ("cifar", "imagenet")
    }
    assert counts == {"cifar": [7, 12, 16, 21, 26], "imagenet": [12, 16, 11, 13, 11]}


@pytest.mark.parametrize(("radius", "alias"), [(0.3, 0.4), (1.5, 0.1), (3, 0.1), (6, 0.5)])
def test_disk_is_a_symmetric_kernel_of_weight_one(radius: float, alias: float) -> None:
    kernel = blur.disk(radius, alias)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert np.allclose(kernel, kernel[::-1, ::-1])


@pytest.mark.parametrize("radius", [8, 10])
def test_disk_that_fills_its_grid_brightens_slightly_as_in_the_official_set(radius: int) -> None:
    kernel = blur.disk(radius, 0.5)
    assert len(kernel) == 2 * radius + 1
    assert 1.005 < kernel.sum() < 1.02


def test_floats_are_truncated_not_rounded() -> None:
    flat = np.full((32, 32, 3), 100, dtype=np.uint8)
    flat[0, 0] = 255
    out = corrupt(flat, "contrast", 3, "cifar", generator(0, "contrast", 3, "a"))
    mean = flat[..., 0].mean()
    exact = (100 - mean) * 0.4 + mean
    assert exact % 1 > 0.05
    assert out[5, 5, 0] == int(exact)


def test_spatter_without_a_droplet_leaves_the_image_alone() -> None:
    class Dry:
        def normal(self, size: tuple[int, int], loc: float, scale: float) -> NDArray[np.float64]:
            return np.full(size, loc)

    pixels = image(0, 32)
    out = weather.spatter(pixels, strength("spatter", 1, "cifar"), Dry())  # type: ignore[arg-type]
    assert np.abs(out - pixels).max() < 1e-4


def elastic_by_definition(pixels: NDArray[np.uint8], c: tuple[float, ...], seed: int) -> NDArray:
    """Displacement with SciPy's own filter and three-dimensional sampling, without the jitter."""
    rng = np.random.RandomState(seed)
    rng.uniform(-1, 1, size=(3, 2))
    x = pixels.astype(np.float32) / np.float32(255)
    fields = []
    for _ in range(2):
        field = rng.uniform(-1, 1, size=x.shape[:2])
        field = ndimage.gaussian_filter(field, c[1], mode="reflect", truncate=3) * c[0]
        fields.append(field.astype(np.float32)[..., None])
    columns, rows, planes = np.meshgrid(*(np.arange(n) for n in (x.shape[1], x.shape[0], 3)))
    where = (rows + fields[1], columns + fields[0], planes)
    return np.clip(ndimage.map_coordinates(x, where, order=1, mode="reflect"), 0, 1) * 255


@pytest.mark.parametrize("preset", ["cifar", "imagenet"])
@pytest.mark.parametrize("severity", [2, 3, 5])
def test_elastic_displacement_equals_its_definition(preset: str, severity: int) -> None:
    from robustbench_snn.corruptions.digital import elastic_transform

    pixels = image(1, 32 if preset == "cifar" else 224)
    amplitude, sigma, _ = strength("elastic_transform", severity, preset)
    still = (amplitude, sigma, 0.0)
    ours = elastic_transform(pixels, still, np.random.RandomState(3))
    assert np.abs(ours - elastic_by_definition(pixels, still, 3)).max() < 0.05


def test_synthetic_frost_is_deterministic_and_labelled() -> None:
    assert np.array_equal(frost_textures.draw_texture(0), frost_textures.synthetic()[0])
    assert frost_textures.label(None) == "synthetic texture"
    assert len(frost_textures.synthetic()) == 5


def write_frost(folder: Path) -> None:
    for index, name in enumerate(frost_textures.OFFICIAL_FILES):
        shade = np.full((200, 300, 3), 20 * (index + 1), dtype=np.uint8)
        Image.fromarray(shade).save(folder / name, quality=100)


def test_official_frost_files_are_used_and_the_sixth_never(tmp_path: Path) -> None:
    write_frost(tmp_path)
    black = np.zeros((32, 32, 3), dtype=np.uint8)
    seen = {
        int(corrupt(black, "frost", 1, "cifar", generator(s, "frost", 1, "a"), tmp_path).max())
        for s in range(60)
    }
    assert seen == {4, 8, 12, 16, 20}
    assert frost_textures.label(tmp_path).startswith("texture files ")


def test_missing_frost_file_is_named(tmp_path: Path) -> None:
    write_frost(tmp_path)
    (tmp_path / "frost4.jpg").unlink()
    rng = generator(0, "frost", 1, "a")
    with pytest.raises(UsageError, match=r"frost4\.jpg' is missing"):
        corrupt(image(0, 32), "frost", 1, "cifar", rng, tmp_path)


def test_large_images_get_an_enlarged_texture() -> None:
    big = np.zeros((600, 800, 3), dtype=np.uint8)
    out = corrupt(big, "frost", 1, "imagenet", generator(0, "frost", 1, "a"))
    assert out.shape == big.shape


@pytest.mark.parametrize(
    ("x", "ids", "said"),
    [
        (np.zeros((2, 3, 32, 32), np.float32), ["a"], "2 images and 1 ids"),
        (np.zeros((1, 1, 32, 32), np.float32), ["a"], "RGB images"),
        (np.full((1, 3, 32, 32), 2, np.float32), ["a"], r"take \[0, 1\]"),
        (np.full((1, 3, 32, 32), np.nan, np.float32), ["a"], r"take \[0, 1\]"),
        (np.zeros((1, 3, 8, 8), np.float32), ["a"], "at least 16 pixels"),
    ],
)
def test_bad_batches_are_refused(x: NDArray[np.float32], ids: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        corrupt_batch(x, ids, "fog", 1, "cifar")


@pytest.mark.parametrize(
    ("name", "severity", "preset", "said"),
    [
        ("fogg", 1, "cifar", "did you mean 'fog'"),
        ("fog", 0, "cifar", "severity 0"),
        ("fog", 1, "tiny", "preset 'tiny'"),
    ],
)
def test_bad_cells_are_refused(name: str, severity: int, preset: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        corrupt_batch(batch(1, 32), ["a"], name, severity, preset)
