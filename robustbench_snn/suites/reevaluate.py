"""A separate clean pass over stored adversarial images: where reported accuracies come from.

No attack and no estimator is there; the batch size is another one and the samples come in another
order, so that nothing an attack left behind in the model can help it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_snn.adapter import ModelAdapter
from robustbench_snn.attacks.losses import answers
from robustbench_snn.measure import TOLERANCE
from robustbench_snn.suites.images import Images, read_images
from robustbench_snn.suites.standing import ImageFile
from robustbench_snn.suites.worker import verdict


@dataclass(frozen=True)
class Verdict:
    """What a clean pass says of n samples.

    Attributes:
        clean: bool [n], the clean image is right.
        robust, robust_8bit: bool [n], clean and adversarial image (float, or rounded to 8 bits)
            are right; without an adversarial image, the clean one.
        outside: ids of samples whose image lies outside its budget or the input range.
        batch_size: of the pass.
    """

    clean: NDArray[np.bool_]
    robust: NDArray[np.bool_]
    robust_8bit: NDArray[np.bool_]
    outside: tuple[str, ...]
    batch_size: int


def counted(
    right: NDArray[np.bool_], clean: Any, claimed: Any, image: Sequence[int]
) -> NDArray[np.bool_]:
    """Which samples count as robust after the clean pass, bool [n].

    Args:
        right: bool [n], ``robust`` or ``robust_8bit`` of a Verdict.
        clean: bool [n], right on every clean pass.
        claimed: bool [n], nothing fooled the sample.
        image: of each sample the number of its adversarial image, -1 where there is none: what
            fooled a sample and left no image cannot be asked again, and counts.
    """
    proved = np.asarray(claimed, dtype=bool) | (np.asarray(image) >= 0)
    return np.asarray(right & np.asarray(clean, dtype=bool) & proved)


def other_batch_size(size: int) -> int:
    """A batch size that differs from ``size``."""
    return size // 2 + 1 if size > 2 else size + 1


def reevaluate(
    model: ModelAdapter,
    x: NDArray[np.float32],
    labels: NDArray[np.int64],
    ids: Sequence[str],
    files: Sequence[ImageFile | None],
    root: str | Path,
    batch_size: int,
) -> Verdict:
    """Predict clean and adversarial images again.

    Args:
        model: in eval mode.
        x: clean images, float32 [n, *input_shape].
        labels, ids: of the n samples.
        files: for each sample the file that holds its adversarial image, or None.
        root: results folder.
        batch_size: of this pass.

    Raises:
        UsageError: a file of images is missing or damaged.
    """
    found = _gathered(ids, files, root)
    floats, rounded = x.copy(), x.copy()
    outside = []
    for row, (images, at, file) in found.items():
        floats[row] = images.x[at]
        rounded[row] = images.x[at] if images.rounded is None else images.rounded[at]
        if not _within(x[row], floats[row], file, model.card.max_value):
            outside.append(ids[row])
            floats[row] = rounded[row] = x[row]
    clean = _right(model, x, labels, batch_size)
    return Verdict(
        clean,
        clean & _right(model, floats, labels, batch_size),
        clean & _right(model, rounded, labels, batch_size),
        tuple(outside),
        batch_size,
    )


def _gathered(
    ids: Sequence[str], files: Sequence[ImageFile | None], root: str | Path
) -> dict[int, tuple[Images, int, ImageFile]]:
    opened: dict[str, tuple[Images, Mapping[str, int]]] = {}
    found = {}
    for row, (name, file) in enumerate(zip(ids, files, strict=True)):
        if file is None:
            continue
        if file.path not in opened:
            images = read_images(root, file.path, file.sha256)
            opened[file.path] = images, {name: at for at, name in enumerate(images.ids)}
        images, place = opened[file.path]
        found[row] = images, place[name], file
    return found


def _within(
    x: NDArray[np.float32], found: NDArray[np.float32], file: ImageFile, high: float | None
) -> bool:
    delta = found.astype(np.float64) - x
    size = np.abs(delta).max() if file.norm == "linf" else float(np.sqrt(np.square(delta).sum()))
    top = np.inf if high is None else high
    slack = TOLERANCE * (1 if file.norm == "linf" else 10)
    fits = size <= file.eps + slack or file.norm not in ("linf", "l2")
    return bool(fits and found.min() >= 0 and found.max() <= top)


def _right(
    model: ModelAdapter, x: NDArray[np.float32], labels: NDArray[np.int64], batch_size: int
) -> NDArray[np.bool_]:
    judge, device = verdict(model), next(model.parameters()).device
    right = np.zeros(len(x), dtype=np.bool_)
    # Backwards, so that no sample keeps its neighbours.
    for stop in range(len(x), 0, -batch_size):
        rows = np.arange(max(stop - batch_size, 0), stop)[::-1]
        batch = torch.from_numpy(np.ascontiguousarray(x[rows])).to(device)
        with torch.no_grad():
            right[rows] = answers(judge(batch)).cpu().numpy() == labels[rows]
    return right
