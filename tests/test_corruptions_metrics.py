"""Corruption metrics against published anchors, and their refusals."""

from __future__ import annotations

import pytest

from robustbench_snn.corruptions import COMMON, CORRUPTIONS, EXTRA, metrics
from robustbench_snn.errors import UsageError
from robustbench_snn.metrics import wilson

# ResNet-50 of torchvision (clean 76.13 %) on the 50,000 images of each official cell: accuracy and
# CE in percent, as published side by side for these nine corruptions.
RESNET50_CE = {
    "brightness": (68.02, 56.64),
    "contrast": (39.06, 71.43),
    "defocus_blur": (38.75, 74.71),
    "elastic_transform": (45.25, 84.75),
    "fog": (45.83, 66.11),
    "frost": (38.14, 74.84),
    "gaussian_noise": (29.29, 79.77),
    "glass_blur": (26.79, 88.61),
    "impulse_noise": (23.81, 82.58),
}

# Accuracies of the same network on 5,000 images of each cell: RobustBench,
# model_info/imagenet/corruptions/unaggregated_results_2d.csv (commit 24ce20d), row Standard_R50.
RESNET50 = {
    "shot_noise": (0.5744, 0.4294, 0.2528, 0.0792, 0.0290),
    "impulse_noise": (0.4844, 0.3580, 0.2546, 0.0830, 0.0182),
    "defocus_blur": (0.5956, 0.5152, 0.3820, 0.2748, 0.1830),
    "contrast": (0.6494, 0.5852, 0.4690, 0.2122, 0.0546),
    "brightness": (0.7392, 0.7244, 0.6956, 0.6498, 0.5866),
    "jpeg_compression": (0.6664, 0.6244, 0.5982, 0.4728, 0.3144),
    "pixelate": (0.6402, 0.6426, 0.4598, 0.2898, 0.2068),
    "glass_blur": (0.5400, 0.4012, 0.1688, 0.1310, 0.1024),
    "motion_blur": (0.6382, 0.5370, 0.3758, 0.2154, 0.1482),
    "zoom_blur": (0.5290, 0.4324, 0.3580, 0.2878, 0.2206),
    "gaussian_noise": (0.5978, 0.4686, 0.2748, 0.1128, 0.0218),
    "fog": (0.6138, 0.5612, 0.4704, 0.4088, 0.2410),
    "frost": (0.6150, 0.4346, 0.3090, 0.2896, 0.2294),
    "snow": (0.5498, 0.3154, 0.3518, 0.2382, 0.1654),
    "elastic_transform": (0.6704, 0.4556, 0.5526, 0.4196, 0.1746),
}
RESNET50_MEAN_ACCURACY = 0.392304  # column "average" of the same row
RESNET50_LEADERBOARD_MCE = 76.7  # README of hendrycks/robustness, all 50,000 images


def flat(error_of: dict[str, float]) -> dict[tuple[str, int], float]:
    return {(name, s): error for name, error in error_of.items() for s in range(1, 6)}


@pytest.fixture
def resnet50() -> dict[tuple[str, int], float]:
    return {(name, s + 1): 1 - row[s] for name, row in RESNET50.items() for s in range(5)}


def test_alexnet_is_one_hundred_by_both_measures() -> None:
    errors = flat(metrics.ALEXNET)
    assert metrics.mce(errors, "imagenet") == pytest.approx(100)
    assert metrics.relative_mce(errors, metrics.ALEXNET_CLEAN, "imagenet") == pytest.approx(100)
    assert metrics.mean_over(errors) == pytest.approx(0.788993, abs=1e-6)


@pytest.mark.parametrize("name", RESNET50_CE)
def test_corruption_errors_equal_the_published_ones(name: str) -> None:
    accuracy, published = RESNET50_CE[name]
    ours = metrics.corruption_error(flat({name: 1 - accuracy / 100}), name, "imagenet")
    assert ours == pytest.approx(published, abs=0.011)


def test_resnet50_row_agrees_with_its_average_and_the_leaderboard(
    resnet50: dict[tuple[str, int], float],
) -> None:
    assert metrics.mean_corruption_accuracy(resnet50) == pytest.approx(
        RESNET50_MEAN_ACCURACY, abs=1e-6
    )
    assert metrics.mce(resnet50, "imagenet") == pytest.approx(RESNET50_LEADERBOARD_MCE, abs=0.1)


def test_extra_corruptions_never_enter_the_mean(resnet50: dict[tuple[str, int], float]) -> None:
    with_extra = resnet50 | flat(dict.fromkeys(EXTRA, 1.0))
    assert metrics.mean_over(with_extra) == metrics.mean_over(resnet50)
    assert metrics.mce(with_extra, "imagenet") == metrics.mce(resnet50, "imagenet")
    assert metrics.mean_extra_error(with_extra) == 1.0


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "digit-scenes"])
def test_mce_is_refused_away_from_imagenet(
    dataset: str, resnet50: dict[tuple[str, int], float]
) -> None:
    with pytest.raises(UsageError, match="ImageNet-C only"):
        metrics.mce(resnet50, dataset)
    with pytest.raises(UsageError, match="ImageNet-C only"):
        metrics.relative_mce(resnet50, 0.2, dataset)


def test_a_missing_cell_is_an_error_not_a_smaller_mean(
    resnet50: dict[tuple[str, int], float],
) -> None:
    del resnet50["fog", 3]
    for measure in (metrics.mean_over, lambda e: metrics.mce(e, "imagenet")):
        with pytest.raises(UsageError, match="lacks fog at severity 3"):
            measure(resnet50)


def test_a_single_severity_has_a_mean_but_no_mce() -> None:
    errors = {(name, 3): 0.5 for name in COMMON}
    assert metrics.mean_over(errors) == 0.5
    with pytest.raises(UsageError, match="lacks gaussian_noise at severity 1"):
        metrics.mce(errors, "imagenet")


def test_extra_corruptions_have_no_corruption_error() -> None:
    with pytest.raises(UsageError, match="no AlexNet error was published for spatter"):
        metrics.corruption_error(flat({"spatter": 0.5}), "spatter", "imagenet")


def test_nothing_to_average_is_said() -> None:
    with pytest.raises(UsageError, match="no corruption results"):
        metrics.mean_over({})


def test_severity_table_counts_and_intervals() -> None:
    correct = {("fog", 2): (60, 100), ("shot_noise", 1): (90, 100), ("fog", 1): (80, 100)}
    rows = metrics.severity_table(correct)
    assert [(r.corruption, r.severity) for r in rows] == [
        ("shot_noise", 1),
        ("fog", 1),
        ("fog", 2),
    ]
    assert rows[1].error == pytest.approx(0.2)
    assert (rows[1].low, rows[1].high) == wilson(20, 100)
    assert rows[1].group == "weather"


def test_corruption_table_counts_each_image_once_in_its_interval() -> None:
    correct = {(name, s): (100 - 10 * s, 100) for name in CORRUPTIONS[:2] for s in (1, 2)}
    rows = metrics.corruption_table(correct)
    assert [r.corruption for r in rows] == list(CORRUPTIONS[:2])
    assert rows[0].error == pytest.approx(0.15)
    assert rows[0].n == 200
    assert (rows[0].low, rows[0].high) == wilson(15, 100)
    del correct["shot_noise", 2]
    with pytest.raises(UsageError, match="lacks shot_noise at severity 2"):
        metrics.corruption_table(correct)
