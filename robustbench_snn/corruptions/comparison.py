"""Compare generated with official corrupted images: by pixel where nothing is random, else in law.

Deterministic corruptions must give the same pixels, up to one grey level through other library
versions. The others are drawn from a seed nobody recorded, so only their distributions can agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Pixels = NDArray[np.uint8]

DETERMINISTIC = (
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
)
# Where a JPEG encoder of another version was at work, pixels differ but hardly visibly.
CLOSE_PSNR = 40.0
# Two-sided critical value of the Kolmogorov-Smirnov statistic at level 0.001.
KS_CRITICAL = 1.95


@dataclass(frozen=True)
class Comparison:
    """One corruption at one severity.

    Attributes:
        corruption: name.
        severity: 1..5.
        n: images compared.
        equal: share of equal values, in [0, 1].
        max_diff: largest difference in grey levels, 0..255.
        psnr: of ours against the official images, in dB; infinite when equal.
        mse_official: mean squared error of the official images against the clean ones.
        mse_ours: the same of ours.
        ks: Kolmogorov-Smirnov distance between the two sets' differences from clean.
        verdict: ``equal``, ``close`` or ``agree``, or what is wrong.
    """

    corruption: str
    severity: int
    n: int
    equal: float
    max_diff: int
    psnr: float
    mse_official: float
    mse_ours: float
    ks: float
    verdict: str

    @property
    def agrees(self) -> bool:
        """Whether ours may stand for the official images."""
        return self.verdict in ("equal", "close", "agree")


def _squared_error(images: Pixels, clean: Pixels) -> NDArray[np.float64]:
    """Mean squared error of every image."""
    difference = images.astype(np.float64) - clean
    return np.square(difference).mean(axis=tuple(range(1, images.ndim)))


def _ks(first: Pixels, second: Pixels, clean: Pixels) -> float:
    """Largest distance between the distributions of the two differences from ``clean``."""
    edges = []
    for images in (first, second):
        difference = images.astype(np.int16) - clean
        counts = np.bincount((difference + 255).ravel(), minlength=511)
        edges.append(np.cumsum(counts) / counts.sum())
    return float(np.abs(edges[0] - edges[1]).max())


def _pixel_verdict(equal: float, max_diff: int, psnr: float) -> str:
    if equal >= 0.99 and max_diff <= 1:
        return "equal"
    return "close" if psnr >= CLOSE_PSNR else "pixels differ"


def _law_verdict(official: NDArray[np.float64], ours: NDArray[np.float64], ks: float) -> str:
    n = len(official)
    difference = ours - official
    error = difference.std(ddof=1) / math.sqrt(n) if n > 1 else math.inf
    if abs(difference.mean()) > 4 * error + 0.02 * official.mean():
        return "damage differs"
    if stats.ks_2samp(official, ours).pvalue < 0.001:
        return "spread over images differs"
    # Pixels of one image go together, so images are counted, not pixels.
    return "agree" if ks <= 0.02 + KS_CRITICAL * math.sqrt(2 / n) else "differences differ"


def compare(
    corruption: str, severity: int, clean: Pixels, official: Pixels, ours: Pixels
) -> Comparison:
    """Compare one cell; all three are uint8 [N, ...] of one shape, images in the same order."""
    gap = np.abs(official.astype(np.int16) - ours)
    mean_gap = float(np.square(gap.astype(np.float64)).mean())
    psnr = math.inf if mean_gap == 0 else 10 * math.log10(255**2 / mean_gap)
    equal, max_diff = float((gap == 0).mean()), int(gap.max())
    per_official, per_ours = _squared_error(official, clean), _squared_error(ours, clean)
    ks = _ks(official, ours, clean)
    if corruption in DETERMINISTIC:
        verdict = _pixel_verdict(equal, max_diff, psnr)
    else:
        verdict = _law_verdict(per_official, per_ours, ks)
    return Comparison(
        corruption=corruption,
        severity=severity,
        n=len(clean),
        equal=equal,
        max_diff=max_diff,
        psnr=psnr,
        mse_official=float(per_official.mean()),
        mse_ours=float(per_ours.mean()),
        ks=ks,
        verdict=verdict,
    )
