"""Write corruption_oracle.json: what two other implementations of ImageNet-C make of two images.

Not run by the tests. Needs, in an environment of its own because they drag numba and a second
OpenCV along, `imagecorruptions-imaug` 1.1.5 and `Wand` on ImageMagick 6.9:

    python -m venv oracle && oracle/bin/pip install imagecorruptions-imaug Wand
    oracle/bin/python tests/golden/make_corruption_oracle.py
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from corruption_images import image  # noqa: E402

SEED = 20_190_328
SIDE = 224
IMAGES = 2
MSE_SEEDS = 8
EXACT = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "zoom_blur",
    "fog",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
)
IN_DISTRIBUTION = ("snow",)
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))


def digest(pixels: NDArray[np.uint8]) -> str:
    """A short fingerprint of an image."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]


class _Double:
    """NumPy with float64 under the name float32: the official fog map is in double precision."""

    float32 = np.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def oracle(name: str, pixels: NDArray[np.uint8], severity: int, seed: int) -> NDArray[np.uint8]:
    """The image as imagecorruptions-imaug makes it, uint8, drawing from a legacy seed."""
    from imagecorruptions import corruptions as reference

    shuffle = reference._shuffle_pixels_njit_glass_blur
    # Its compiled loop draws from numba's own generator; the same loop in Python draws from NumPy.
    reference._shuffle_pixels_njit_glass_blur = getattr(shuffle, "py_func", shuffle)
    reference.np = _Double() if name == "fog" else np
    np.random.seed(seed)
    options: dict[str, Any] = {"seed": seed} if name in ("impulse_noise", "glass_blur") else {}
    out = getattr(reference, name)(Image.fromarray(pixels), severity=severity, **options)
    return np.asarray(out).astype(np.uint8)


def magick_motion_blur(
    pixels: NDArray[np.uint8], radius: float, sigma: float, angle: float
) -> NDArray[np.uint8]:
    """Motion blur by ImageMagick, through PNG both ways as the official generator does."""
    from wand.image import Image as WandImage

    stored = BytesIO()
    Image.fromarray(pixels).save(stored, "PNG")
    with WandImage(blob=stored.getvalue()) as picture:
        picture.motion_blur(radius=radius, sigma=sigma, angle=angle)
        return np.asarray(Image.open(BytesIO(picture.make_blob("png"))).convert("RGB"))


def mean_mse(name: str, severity: int) -> float:
    """Mean squared error on the 0..255 scale, over the images and some seeds."""
    errors = []
    for index in range(IMAGES):
        clean = image(index, SIDE)
        for seed in range(MSE_SEEDS):
            out = oracle(name, clean, severity, seed)
            errors.append(float(np.mean((out.astype(float) - clean) ** 2)))
    return round(float(np.mean(errors)), 2)


def build() -> dict[str, Any]:
    """The whole content of the golden file."""
    pictures = [image(index, SIDE) for index in range(IMAGES)]
    exact = {
        name: [[digest(oracle(name, p, s, SEED)) for p in pictures] for s in range(1, 6)]
        for name in EXACT
    }
    motion = [
        [
            digest(magick_motion_blur(p, radius, sigma, angle))
            for p, angle in zip(pictures, (20.3, -41.7), strict=True)
        ]
        for radius, sigma in MOTION
    ]
    packages = ("imagecorruptions-imaug", "numpy", "opencv-python", "pillow", "scipy", "Wand")
    return {
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "seed": SEED,
        "side": SIDE,
        "images": [digest(p) for p in pictures],
        "exact": exact,
        "motion_angles": [20.3, -41.7],
        "motion": motion,
        "mse_seeds": MSE_SEEDS,
        "mse": {name: [mean_mse(name, s) for s in range(1, 6)] for name in IN_DISTRIBUTION},
    }


if __name__ == "__main__":
    text = json.dumps(build(), indent=1)
    (HERE / "corruption_oracle.json").write_text(text + "\n", encoding="utf-8")
