"""Reading eps curves; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def levels(eps: float) -> str:
    """A distance of a curve as ``0.5/255``."""
    return f"{255 * eps:g}/255"


def eps50(points: Sequence[Mapping[str, Any]]) -> float:
    """The eps at which accuracy has fallen to half of clean accuracy, linear between points.

    Args:
        points: of one curve, the one at eps 0 included.

    Returns:
        Infinity when the curve never falls that far.
    """
    return _crossing(points, lambda point: point["correct"] / point["n"])


def eps50_band(points: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Where the two ends of the 95 % band cross half of clean accuracy.

    Args:
        points: as for ``eps50``, with ``low`` and ``high``.

    Returns:
        (low, high) with ``low <= eps50 <= high``; 0 where the band lies below half at once.
    """
    low = _crossing(points, lambda point: point["low"])
    return low, _crossing(points, lambda point: point["high"])


def resolved_from(points: Sequence[Mapping[str, Any]]) -> float:
    """The smallest eps above 0 of a curve: what crosses half below it is not resolved.

    Infinity for a curve of clean accuracy alone.
    """
    return min((point["eps"] for point in points if point["eps"] > 0), default=math.inf)


def _crossing(
    points: Sequence[Mapping[str, Any]], height: Callable[[Mapping[str, Any]], float]
) -> float:
    ordered = sorted(points, key=lambda point: point["eps"])
    eps = np.array([point["eps"] for point in ordered])
    values = np.array([height(point) for point in ordered])
    clean = ordered[0]["correct"] / ordered[0]["n"]
    below = np.flatnonzero(values <= clean / 2)
    if not below.size or clean == 0:
        return math.inf
    at = int(below[0])
    if at == 0:
        return float(eps[0])
    high, low = values[at - 1], values[at]
    return float(eps[at - 1] + (eps[at] - eps[at - 1]) * (high - clean / 2) / (high - low))
