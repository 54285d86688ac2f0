"""Draw a handwritten digit into a small colour scene, bit for bit the same on every machine.

Random bits come straight from the Philox counter generator (its raw stream is fixed for good,
unlike the distributions built on it). Matrix products act on whole numbers below 2**53, exact in
float64 in any order of summation; all else is elementwise arithmetic that IEEE 754 rounds in one
way only. No transcendental function is used.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SIDE = 32
SCAN_SIDE = 8
SCAN_MAX = 16
SIZES = range(14, 23)

# Noise grids from coarse to fine: (cells per side, amplitude in grey levels).
OCTAVES = ((3, 44), (7, 28), (15, 18), (31, 10))
MIN_LUMINANCE_STEP = 72
COLOUR_CANDIDATES = 6
MAX_STROKES = 3
STROKE_POINTS = 3
_PARAMETER_BYTES = 128
_NOISE_BYTES = sum(3 * (cells + 1) ** 2 for cells, _ in OCTAVES)
BYTES_PER_SCENE = _PARAMETER_BYTES + -(-_NOISE_BYTES // 8) * 8

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


def random_bytes(seed: int, stream: int, index: int, count: int) -> U8:
    """``count`` (a multiple of 8) bytes keyed by (seed, stream, index), each 0..255."""
    key = np.array([seed, (stream << 48) | index], dtype=np.uint64)
    words = np.asarray(np.random.Philox(key=key).random_raw(count // 8), dtype="<u8")
    return words.view(np.uint8)


def render(scans: NDArray[np.integer], noise: U8) -> tuple[U8, NDArray[np.bool_]]:
    """Scenes and object masks.

    Args:
        scans: [N, 8, 8] ink of each digit, 0..16.
        noise: [N, BYTES_PER_SCENE] random bytes that decide everything else.

    Returns:
        (pixels uint8 [N, 3, 32, 32], masks bool [N, 32, 32]); a mask holds the pixels at least
        half covered by the digit, which is drawn last and so is never hidden.
    """
    draw = noise[:, :_PARAMETER_BYTES].astype(np.int64)
    base = 48 + draw[:, 0:3] * 160 // 256
    scene = base[:, :, None, None] + _texture(noise[:, _PARAMETER_BYTES:])
    scene = _add_strokes(scene, draw[:, 64:128])
    cover = _digit_cover(scans, draw[:, 3:6])
    colour = _digit_colour(base, draw[:, 6 : 6 + 3 * COLOUR_CANDIDATES])
    scene += cover[:, None] * (colour[:, :, None, None] - scene)
    return np.rint(np.clip(scene, 0, 255)).astype(np.uint8), cover >= 0.5


@cache
def _noise_weights(cells: int) -> F64:
    """Linear interpolation from cells + 1 grid points to 32 pixels, [32, cells + 1], times 64."""
    weights = np.zeros((SIDE, cells + 1))
    for pixel in range(SIDE):
        cell, rest = divmod((2 * pixel + 1) * cells, 2 * SIDE)
        weights[pixel, cell] = 2 * SIDE - rest
        weights[pixel, cell + 1] = rest
    return weights


def _texture(noise: U8) -> F64:
    """Colour noise summed over the octaves, [N, 3, 32, 32], grey levels around 0."""
    total = np.zeros((len(noise), 3, SIDE, SIDE))
    start = 0
    for cells, amplitude in OCTAVES:
        points = 3 * (cells + 1) ** 2
        grid = noise[:, start : start + points].reshape(-1, 3, cells + 1, cells + 1)
        weights = _noise_weights(cells)
        smooth = weights @ (2.0 * grid - 255.0) @ weights.T
        total += smooth * (amplitude / (255.0 * 4096.0))
        start += points
    return total


@cache
def _scan_weights() -> F64:
    """Linear resampling of a scan line into a pixel row, times 2 * size: [size, offset, 32, 8].

    Outside the scan there is no ink; a digit of ``size`` pixels occupies [offset, offset + size).
    """
    table = np.zeros((len(SIZES), SIDE - SIZES[0] + 1, SIDE, SCAN_SIDE))
    for row, size in enumerate(SIZES):
        for pixel in range(size):
            cell, rest = divmod(SCAN_SIDE * (2 * pixel + 1) - size, 2 * size)
            for source, weight in ((cell, 2 * size - rest), (cell + 1, rest)):
                if 0 <= source < SCAN_SIDE:
                    for offset in range(SIDE - size + 1):
                        table[row, offset, offset + pixel, source] = weight
    return table


def _digit_cover(scans: NDArray[np.integer], draw: NDArray[np.int64]) -> F64:
    """How much of each pixel the digit covers, [N, 32, 32] in [0, 1]; draw: size, top, left."""
    row = draw[:, 0] * len(SIZES) // 256
    size = SIZES[0] + row
    top, left = (draw[:, axis] * (SIDE - size + 1) // 256 for axis in (1, 2))
    table = _scan_weights()
    ink = table[row, top] @ scans.astype(np.float64) @ table[row, left].transpose(0, 2, 1)
    opacity = ink / (4.0 * SCAN_MAX * (size * size)[:, None, None])
    # Bilinear enlargement smears a pen line; the steeper ramp gives it its edge back.
    return np.clip(2.0 * opacity - 0.5, 0.0, 1.0)


def _luminance(rgb: NDArray[np.int64]) -> NDArray[np.int64]:
    return (rgb @ np.array([77, 150, 29])) // 256


def _digit_colour(base: NDArray[np.int64], draw: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first drawn colour that stands out from the background's mean, else the best, [N, 3]."""
    candidates = 8 + draw.reshape(len(draw), COLOUR_CANDIDATES, 3) * 240 // 256
    step = np.abs(_luminance(candidates) - _luminance(base)[:, None])
    choice = np.argmax(np.minimum(step, MIN_LUMINANCE_STEP), axis=1)
    return candidates[np.arange(len(draw)), choice]


def _add_strokes(scene: F64, draw: NDArray[np.int64]) -> F64:
    """Draw one to three bent pen strokes over the scene; draw: 64 bytes a scene."""
    count = 1 + draw[:, 63] * MAX_STROKES // 256
    for stroke in range(MAX_STROKES):
        part = draw[:, 16 * stroke : 16 * stroke + 16]
        points = [part[:, 0:2] / 8.0]
        for joint in range(1, STROKE_POINTS):
            points.append(points[-1] + (part[:, 2 * joint : 2 * joint + 2] - 128) / 14.0)
        reach = np.minimum(
            _distance(points[0], points[1]),
            _distance(points[1], points[2]),
        )
        half_width = 0.6 + part[:, 6, None, None] / 256.0
        cover = np.clip(half_width + 0.5 - reach, 0.0, 1.0) * (stroke < count)[:, None, None]
        colour = part[:, 7:10, None, None]
        scene = scene + cover[:, None] * (colour - scene)
    return scene


def _distance(start: F64, end: F64) -> F64:
    """Distance of every pixel centre to the segments start-end ([N, 2] as y, x): [N, 32, 32]."""
    centre = np.arange(SIDE) + 0.5
    y = centre[None, :, None] - start[:, 0, None, None]
    x = centre[None, None, :] - start[:, 1, None, None]
    dy, dx = ((end - start)[:, axis, None, None] for axis in (0, 1))
    along = np.clip((y * dy + x * dx) / np.maximum(dy * dy + dx * dx, 1e-9), 0.0, 1.0)
    y, x = y - along * dy, x - along * dx
    return np.sqrt(y * y + x * x)
