"""Fixed images for the corruption tests, made with integers only so that they never change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def image(index: int, side: int) -> NDArray[np.uint8]:
    """Synthetic picture ``index``, uint8 RGB [side, side, 3]: blobs, texture, flat and clipped."""
    rng = np.random.RandomState(1000 + index)
    block = side // 8
    coarse = np.kron(rng.randint(0, 200, (8, 8, 3)), np.ones((block, block, 1), dtype=np.int64))
    fine = np.kron(rng.randint(-30, 31, (side // 2, side // 2, 3)), np.ones((2, 2, 1), np.int64))
    ramp = (np.arange(side)[:, None, None] + np.arange(side)[None, :, None]) * 60 // side
    picture = coarse + fine + ramp
    half, quarter = side // 2, side // 4
    picture[:quarter, :quarter] = 255
    picture[-quarter:, :quarter] = 0
    picture[half : half + quarter, half:] = (90, 128, 200)
    return np.clip(picture, 0, 255).astype(np.uint8)
