"""CIFAR constants against the published behaviour of each severity.

The figures are mean squared errors (0..255 scale) of a reference port on lossless CIFAR-10 images;
the images here went through JPEG once, so JPEG compression itself is compared in shape only.
"""

from __future__ import annotations

import functools
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from corruption_images import image
from numpy.typing import NDArray
from PIL import Image

from robustbench_snn.corruptions import corrupt, generator

PARQUET = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10" / "test.parquet"
COUNT = 200
needs_cifar = pytest.mark.skipif(
    not PARQUET.is_file(), reason="no CIFAR-10 in ../shared/data/cifar10"
)


@functools.lru_cache(maxsize=1)
def photographs() -> list[NDArray[np.uint8]]:
    import pyarrow.parquet as pq

    rows = pq.read_table(PARQUET, columns=["img"]).slice(0, COUNT).to_pylist()
    return [np.asarray(Image.open(BytesIO(row["img"]["bytes"])).convert("RGB")) for row in rows]


@functools.lru_cache(maxsize=1)
def synthetic() -> list[NDArray[np.uint8]]:
    return [image(index, 32) for index in range(COUNT // 4)]


def damage(pictures: list[NDArray[np.uint8]], name: str) -> list[float]:
    """Mean squared error at severities 1..5."""
    return [
        float(
            np.mean(
                [
                    (corrupt(x, name, s, "cifar", generator(0, name, s, str(i))).astype(float) - x)
                    ** 2
                    for i, x in enumerate(pictures)
                ]
            )
        )
        for s in range(1, 6)
    ]


@needs_cifar
@pytest.mark.parametrize(
    ("name", "published", "tolerance"),
    [
        ("gaussian_noise", [101, 223, 390, 489, 598], 0.02),
        ("defocus_blur", [4, 25, 58, 98, 201], 0.08),
        ("glass_blur", [486, 473, 400, 1004, 876], 0.08),
    ],
)
def test_damage_equals_the_published_figures(
    name: str, published: list[float], tolerance: float
) -> None:
    assert damage(photographs(), name) == pytest.approx(published, rel=tolerance)


@needs_cifar
def test_single_published_figures() -> None:
    snow = damage(photographs(), "snow")
    assert [snow[0], snow[4]] == pytest.approx([175, 3184], rel=0.05)
    motion = damage(photographs(), "motion_blur")
    assert [motion[2], motion[3]] == pytest.approx([426.7, 426.7], rel=0.05)
    assert damage(photographs(), "elastic_transform")[0] == pytest.approx(1307, rel=0.05)


@needs_cifar
def test_jpeg_damage_grows_with_severity() -> None:
    errors = damage(photographs(), "jpeg_compression")
    assert errors == sorted(errors)
    assert errors[4] < 134


def test_glass_blur_is_not_monotone_on_any_image() -> None:
    errors = damage(synthetic(), "glass_blur")
    assert errors[0] > errors[2]
    assert min(errors[3:]) > 1.4 * max(errors[:3])
    assert errors[3] > errors[4]


def test_motion_blur_three_and_four_do_equal_damage() -> None:
    errors = damage(synthetic(), "motion_blur")
    assert errors[2] == pytest.approx(errors[3], rel=0.05)
    assert errors[0] < errors[1] < errors[2] < errors[4]


def test_elastic_damage_falls_with_severity() -> None:
    errors = damage(synthetic(), "elastic_transform")
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("name", ["gaussian_noise", "defocus_blur", "snow", "jpeg_compression"])
def test_imagenet_constants_are_far_too_strong_at_32_px(name: str) -> None:
    cifar = damage(synthetic()[:8], name)
    for severity in (1, 5):
        errors = [
            (corrupt(x, name, severity, "imagenet", generator(0, name, severity, str(i))) - 1.0 * x)
            for i, x in enumerate(synthetic()[:8])
        ]
        assert np.mean(np.square(errors)) > 1.5 * cifar[severity - 1]
