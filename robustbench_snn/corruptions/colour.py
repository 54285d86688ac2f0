"""RGB and HSV on planes, with the rounding of the usual hexcone formulae (Smith 1978).

The order of operations matters: the callers truncate to uint8, where one unit in the last place of
a float can move a pixel by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]


def rgb_to_hsv(red: Plane, green: Plane, blue: Plane) -> tuple[Plane, Plane, Plane]:
    """Hue, saturation and value in [0, 1] of planes in [0, 1], all of one shape."""
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    grey = spread == 0
    divisor = np.where(grey, 1.0, spread)
    # Where two channels are both largest, the later one decides.
    sector = np.where(red == value, (green - blue) / divisor, 0.0)
    sector = np.where(green == value, 2.0 + (blue - red) / divisor, sector)
    sector = np.where(blue == value, 4.0 + (red - green) / divisor, sector)
    hue = (sector / 6.0) % 1.0
    hue[grey] = 0.0
    saturation = np.where(grey, 0.0, spread / np.where(value == 0, 1.0, value))
    return hue, saturation, value


def hsv_to_rgb(hue: Plane, saturation: Plane, value: Plane) -> tuple[Plane, Plane, Plane]:
    """The inverse of ``rgb_to_hsv``: three planes in [0, 1]."""
    sixths = hue * 6.0
    floor = np.floor(sixths)
    part = sixths - floor
    low = value * (1.0 - saturation)
    falling = value * (1.0 - part * saturation)
    rising = value * (1.0 - (1.0 - part) * saturation)
    sector = floor.astype(np.uint8) % 6
    return (
        np.choose(sector, (value, falling, low, low, rising, value)),
        np.choose(sector, (rising, value, value, falling, low, low)),
        np.choose(sector, (low, low, rising, value, value, falling)),
    )
