"""Images per second of every corruption on one core, and three of them written naively.

    OMP_NUM_THREADS=1 python benchmarks/corruption_throughput.py [--seconds 0.3]

The naive versions do what the published code does, call by call: a Python loop over pixels for
glass blur, one zoom of SciPy per factor for zoom blur, a texture decoded per image for frost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from io import BytesIO

import arguments
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from robustbench_snn.corruptions import CORRUPTIONS, corrupt_batch
from robustbench_snn.corruptions.blur import smooth
from robustbench_snn.corruptions.constants import FROST_TEXTURE_SCALE, strength
from robustbench_snn.corruptions.frost_textures import synthetic

SIDES = {"cifar": 32, "imagenet": 224}
WHOLE_SET = 10_000 * 5


def naive_glass(image: NDArray[np.uint8], severity: int, preset: str) -> NDArray[np.uint8]:
    """Glass blur with its loop over pixels."""
    sigma, delta, passes = strength("glass_blur", severity, preset)
    reach, (height, width) = int(delta), image.shape[:2]
    x = (smooth(image / 255.0, sigma) * 255).astype(np.uint8)
    for _ in range(int(passes)):
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                dx, dy = np.random.randint(-reach, reach, size=(2,))
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    return (np.clip(smooth(x / 255.0, sigma), 0, 1) * 255).astype(np.uint8)


def naive_zoom(image: NDArray[np.uint8], severity: int, preset: str) -> NDArray[np.uint8]:
    """Zoom blur with one call of ``scipy.ndimage.zoom`` per factor."""
    x = (image / 255.0).astype(np.float32)
    side, total = len(x), np.zeros_like(x)
    factors = np.arange(1, *strength("zoom_blur", severity, preset))
    for factor in factors:
        crop = int(np.ceil(side / factor))
        top = (side - crop) // 2
        part = x[top : top + crop, top : top + crop]
        total += ndimage.zoom(part, (factor, factor, 1), order=1)[:side, :side]
    return (np.clip((x + total) / (len(factors) + 1), 0, 1) * 255).astype(np.uint8)


def texture_file() -> bytes:
    """A frost texture of the size of the published ones, as PNG."""
    stored = BytesIO()
    Image.fromarray(cv2.resize(synthetic()[0], (900, 600))).save(stored, "PNG")
    return stored.getvalue()


def naive_frost(stored: bytes, image: NDArray[np.uint8], severity: int, preset: str) -> None:
    """Frost that decodes and scales its texture for every image."""
    c = strength("frost", severity, preset)
    scale = FROST_TEXTURE_SCALE[preset]
    texture = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR)
    texture = cv2.resize(texture, (0, 0), fx=scale, fy=scale)
    crop = texture[: image.shape[0], : image.shape[1], ::-1]
    np.clip(c[0] * image + c[1] * crop, 0, 255).astype(np.uint8)


def seconds_each(call: Callable[[], object], images: int, budget: float) -> float:
    """Fastest time per image over repeated calls within ``budget`` seconds."""
    call()
    best, end = float("inf"), time.perf_counter() + budget
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, (now - start) / images)
        if now > end:
            return best


def pictures(count: int, side: int) -> NDArray[np.float32]:
    """Smooth random pictures, float32 [count, 3, side, side] in [0, 1]."""
    rng = np.random.default_rng(0)
    noise = rng.random((count, side, side, 3))
    blurred = np.stack([cv2.GaussianBlur(x, (0, 0), side / 30) for x in noise])
    scaled = (blurred - blurred.min()) / np.ptp(blurred)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32)


def measure(preset: str, budget: float) -> Iterator[tuple[str, float]]:
    """(corruption, seconds per image averaged over the five severities)."""
    side = SIDES[preset]
    count = 64 if side == 32 else 4
    x, ids = pictures(count, side), [str(i) for i in range(count)]
    for name in CORRUPTIONS:
        times = [
            seconds_each(lambda n=name, s=s: corrupt_batch(x, ids, n, s, preset), count, budget)
            for s in range(1, 6)
        ]
        yield name, float(np.mean(times))


def measure_naive(preset: str) -> dict[str, float]:
    """Seconds per image of the three naive versions, severity 3."""
    image = np.rint(pictures(1, SIDES[preset])[0].transpose(1, 2, 0) * 255).astype(np.uint8)
    stored = texture_file()
    calls: dict[str, Callable[[], object]] = {
        "glass_blur": lambda: naive_glass(image, 3, preset),
        "zoom_blur": lambda: naive_zoom(image, 3, preset),
        "frost": lambda: naive_frost(stored, image, 3, preset),
    }
    return {name: seconds_each(call, 1, 0.3) for name, call in calls.items()}


def main() -> None:
    """Print one table per preset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=arguments.seconds, default=0.3, help="budget of one measurement"
    )
    budget = parser.parse_args().seconds
    cv2.setNumThreads(1)
    for preset, side in SIDES.items():
        naive = measure_naive(preset)
        print(f"\n{preset} constants, {side} px, one core (imagenet includes its JPEG 85)")
        total = replaced = 0.0
        for name, seconds in measure(preset, budget):
            total += seconds
            replaced += seconds if name in naive else 0.0
            ratio = f"{naive[name] / seconds:6.1f} x naive" if name in naive else ""
            print(f"{name:18s} {1 / seconds:9.0f} images/s {1e3 * seconds:8.3f} ms  {ratio}")
        with_naive = total + sum(naive.values()) - replaced
        print(f"10,000 x 95 images: {WHOLE_SET * total / 60:.1f} min", end=", ")
        print(f"with the three naive versions {WHOLE_SET * with_naive / 60:.1f} min")


if __name__ == "__main__":
    main()
