"""Command-line values that the benchmarks share: each mistake is one sentence and exit code 2."""

from __future__ import annotations

import argparse
import math

from robustbench_snn.attacks.values import parse_count
from robustbench_snn.catalogue import model_card
from robustbench_snn.errors import UsageError


def count(text: str) -> int:
    """A whole number of at least 1."""
    try:
        return parse_count(text, "value")
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def counts(text: str) -> list[int]:
    """Whole numbers of at least 1, with commas."""
    return [count(part) for part in text.split(",")]


def seconds(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0.")
    return value


def model(text: str) -> str:
    """The name of a registered model."""
    try:
        return model_card(text).name
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
