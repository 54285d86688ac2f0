"""Reading eps curves; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def eps50(points: Sequence[Mapping[str, Any]]) -> float:
    """The eps at which accuracy has fallen to half of clean accuracy, linear between points.

    Args:
        points: of one curve, the one at eps 0 included.

    Returns:
        Infinity when the curve never falls that far.
    """
    ordered = sorted(points, key=lambda point: point["eps"])
    eps = np.array([point["eps"] for point in ordered])
    accuracy = np.array([point["correct"] / point["n"] for point in ordered])
    half = accuracy[0] / 2
    below = np.flatnonzero(accuracy <= half)
    if not below.size or accuracy[0] == 0:
        return math.inf
    at = int(below[0])
    high, low = accuracy[at - 1], accuracy[at]
    return float(eps[at - 1] + (eps[at] - eps[at - 1]) * (high - half) / (high - low))
