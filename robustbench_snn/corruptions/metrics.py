"""Corruption metrics: mean error and accuracy, mCE and relative mCE, per-severity tables.

Hendrycks and Dietterich 2019 (arXiv:1903.12261), section 4. Errors are top-1, fractions in [0, 1];
the means run over the 15 common corruptions, never over the four extra ones. A cell that was not
evaluated is an error, not a smaller mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from robustbench_snn.corruptions.names import COMMON, CORRUPTIONS, EXTRA, SEVERITIES, group_of
from robustbench_snn.errors import UsageError
from robustbench_snn.metrics import wilson

Cell = tuple[str, int]
Errors = Mapping[Cell, float]

# AlexNet's errors on ImageNet-C, averaged over the five severities: imagenet.py of
# github.com/google-research/augmix, which has them from the authors of ImageNet-C.
ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
ALEXNET_CLEAN = 0.435


def _severities(errors: Errors) -> list[int]:
    return sorted({severity for _, severity in errors})


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _require(errors: Errors, names: Iterable[str], severities: Iterable[int]) -> None:
    missing = [
        f"{name} at severity {s}" for name in names for s in severities if (name, s) not in errors
    ]
    if missing:
        more = f" and {len(missing) - 1} more cells" if len(missing) > 1 else ""
        raise UsageError(
            f"the corruption mean lacks {missing[0]}{more}: run them, or report single corruptions."
        )


def mean_over(errors: Errors, names: Iterable[str] = COMMON) -> float:
    """Mean corruption error (unnormalised): the mean of ``errors`` over names and severities.

    Args:
        errors: error of every (corruption, severity); cells of other corruptions are ignored.
        names: which corruptions; the 15 common ones unless told.

    Raises:
        UsageError: a corruption lacks a severity that any other cell has, or nothing is there.
    """
    chosen = list(names)
    severities = _severities(errors)
    if not chosen or not severities:
        raise UsageError("there are no corruption results to average: run some first.")
    _require(errors, chosen, severities)
    return _mean(errors[name, s] for name in chosen for s in severities)


def mean_corruption_accuracy(errors: Errors) -> float:
    """1 minus the mean error over the 15 common corruptions, in [0, 1]."""
    return 1.0 - mean_over(errors, COMMON)


def mean_extra_error(errors: Errors) -> float:
    """Mean error over the four extra corruptions, which have no published normaliser."""
    return mean_over(errors, EXTRA)


def _check_normaliser(errors: Errors, dataset: str, names: Iterable[str]) -> None:
    if dataset != "imagenet":
        raise UsageError(
            f"mCE divides by AlexNet's errors, which exist for ImageNet-C only, not for "
            f"'{dataset}': report the mean corruption error (unnormalised)."
        )
    without = [name for name in names if name not in ALEXNET]
    if without:
        raise UsageError(f"no AlexNet error was published for {without[0]}: report its mean error.")
    _require(errors, names, SEVERITIES)


def corruption_error(errors: Errors, name: str, dataset: str) -> float:
    """CE of one corruption in percent: error over AlexNet's, both summed over 5 severities.

    Raises:
        UsageError: not ImageNet, an extra corruption, or a severity is missing.
    """
    group_of(name)
    _check_normaliser(errors, dataset, [name])
    return 100.0 * _mean(errors[name, s] for s in SEVERITIES) / ALEXNET[name]


def mce(errors: Errors, dataset: str) -> float:
    """Mean CE over the 15 common corruptions, in percent; AlexNet is 100.

    Raises:
        UsageError: not ImageNet, or any of the 75 cells is missing.
    """
    _check_normaliser(errors, dataset, COMMON)
    return _mean(corruption_error(errors, name, dataset) for name in COMMON)


def relative_mce(errors: Errors, clean_error: float, dataset: str) -> float:
    """Mean over the 15 of the rise above the clean error, relative to AlexNet's rise, in percent.

    It can look good for a model that is bad on clean images: print ``clean_error`` beside it.

    Args:
        errors: error of every (corruption, severity).
        clean_error: the same model's top-1 error on clean images, in [0, 1].
        dataset: must be ``imagenet``.

    Raises:
        UsageError: as for ``mce``.
    """
    _check_normaliser(errors, dataset, COMMON)
    return _mean(
        100.0
        * (_mean(errors[name, s] for s in SEVERITIES) - clean_error)
        / (ALEXNET[name] - ALEXNET_CLEAN)
        for name in COMMON
    )


@dataclass(frozen=True)
class ErrorRow:
    """The error of one corruption at one severity, or at all of them (severity None).

    Attributes:
        corruption: name; of a mean, what it is the mean of.
        group: noise, blur, weather, digital or extra.
        severity: 1..5, or None for all evaluated severities together.
        n: predictions counted.
        error: fraction wrong.
        low: lower bound of the 95 % Wilson interval of ``error``.
        high: upper bound.
    """

    corruption: str
    group: str
    severity: int | None
    n: int
    error: float
    low: float
    high: float


def _row(name: str, severity: int | None, wrong: int, n: int, repeats: int = 1) -> ErrorRow:
    low, high = wilson(round(wrong / repeats), n // repeats)
    return ErrorRow(name, group_of(name), severity, n, wrong / n, low, high)


def severity_table(correct: Mapping[Cell, tuple[int, int]]) -> list[ErrorRow]:
    """One row per (corruption, severity), in the canonical order.

    Args:
        correct: (correct predictions, all predictions) of every cell.
    """
    cells = sorted(correct, key=lambda cell: (CORRUPTIONS.index(cell[0]), cell[1]))
    return [_row(*cell, correct[cell][1] - correct[cell][0], correct[cell][1]) for cell in cells]


def corruption_table(correct: Mapping[Cell, tuple[int, int]]) -> list[ErrorRow]:
    """One row per corruption, severities together.

    The interval counts every image once, as if its severities always agreed: one image at five
    severities is not five independent ones. It is therefore on the wide side.

    Raises:
        UsageError: a corruption lacks a severity that another one has.
    """
    severities = _severities({cell: 0.0 for cell in correct})
    names = [name for name in CORRUPTIONS if any(cell[0] == name for cell in correct)]
    _require({cell: 0.0 for cell in correct}, names, severities)
    rows = []
    for name in names:
        right = sum(correct[name, s][0] for s in severities)
        n = sum(correct[name, s][1] for s in severities)
        rows.append(_row(name, None, n - right, n, repeats=len(severities)))
    return rows


def errors_of(correct: Mapping[Cell, tuple[int, int]]) -> dict[Cell, float]:
    """Error of every cell from its (correct, all) counts."""
    return {cell: 1.0 - right / n for cell, (right, n) in correct.items()}
