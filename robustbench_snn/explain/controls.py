"""Maps that know nothing of the image, which a model's maps must beat. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CENTRE_SIGMA = 0.25
CONTROLS = ("uniform", "centre", "mean")


def uniform(rows: int, columns: int) -> NDArray[np.float64]:
    """The map with the same value everywhere, [rows, columns]."""
    return np.ones((rows, columns))


def centre_prior(rows: int, columns: int, sigma: float = CENTRE_SIGMA) -> NDArray[np.float64]:
    """A Gaussian in the middle, [rows, columns]; ``sigma`` as a share of each side."""
    sides = [
        np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) / sigma) ** 2) for n in (rows, columns)
    ]
    return np.asarray(sides[0][:, None] * sides[1][None, :])


def mean_map(maps: NDArray[Any]) -> NDArray[np.float64]:
    """Mean over the set of a model's own maps [n, h, w]: where it looks whatever the image."""
    return np.asarray(maps, dtype=np.float64).mean(0)


def control_maps(maps: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """The three controls for maps [n, h, w], each repeated to [n, h, w]."""
    n, rows, columns = maps.shape
    found = {
        "uniform": uniform(rows, columns),
        "centre": centre_prior(rows, columns),
        "mean": mean_map(maps),
    }
    return {name: np.broadcast_to(one, (n, rows, columns)) for name, one in found.items()}
