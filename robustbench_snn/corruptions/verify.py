"""python -m robustbench_snn.corruptions.verify: are our corruptions those of the official files?

Reads official files and the clean images they were made from, makes our version of the same images
and prints one line a cell. Exit code 0 when every cell agrees, 3 when one does not, 2 when the
files cannot be compared at all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.card import Preprocess
from robustbench_snn.corruptions import frost_textures
from robustbench_snn.corruptions.comparison import DETERMINISTIC, Comparison, compare
from robustbench_snn.corruptions.generate import corrupt_batch
from robustbench_snn.corruptions.names import parse_severities, resolve
from robustbench_snn.corruptions.official import FOLDERS, available, open_official
from robustbench_snn.data.base import Batch, ImageDataset
from robustbench_snn.data.catalogue import DATASETS, load_dataset
from robustbench_snn.data.imagenet import FolderRows
from robustbench_snn.data.stored_images import StoredImages
from robustbench_snn.endings import ended_politely
from robustbench_snn.errors import UsageError

# What the authors cut the clean ImageNet images with before they corrupted them.
IMAGENET_CUT = Preprocess(resize=256, crop=224, interpolation="bilinear")


@dataclass(frozen=True)
class Pair:
    """The same n images, official and clean, with their ids; pixels uint8 [n, 3, H, W]."""

    ids: list[str]
    official: NDArray[np.uint8]
    clean: NDArray[np.uint8]


def _pixels(x: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(x * 255).astype(np.uint8)


class Clean:
    """The clean images the official ones were made from, found by the official images' ids."""

    def __init__(self, dataset: str, folder: Path) -> None:
        """Open them; raises UsageError when nothing readable is there."""
        self._positions: dict[str, int] | None = None
        self._images: ImageDataset
        if dataset == "imagenet":
            # Official folders are often subsets, so files are paired by name, not by position.
            inner = folder / "val"
            rows = FolderRows(inner if inner.is_dir() else folder)
            self._positions = {rows.identity(i): i for i in range(len(rows.labels))}
            self._images = StoredImages(DATASETS.get(dataset), "test", rows, IMAGENET_CUT)
        else:
            self._images = load_dataset(dataset, "test", folder)
        self.revision = self._images.revision

    def batch(self, ids: Sequence[str]) -> Batch:
        """The clean images called ``ids``; raises UsageError when one is not there."""
        positions = self._positions or {f"test/{i:06d}": i for i in range(len(self._images))}
        lost = [name for name in ids if name not in positions]
        if lost:
            raise UsageError(
                f"{len(lost)} of {len(ids)} official images, such as '{lost[0]}', are not among "
                "the clean ones: give the images that the official files were made from."
            )
        return self._images.batch([positions[name] for name in ids])


def pair(official: ImageDataset, clean: Clean, n: int) -> Pair:
    """The first ``n`` official images and the clean ones of the same ids.

    Raises:
        UsageError: images are missing, or labels differ: the clean images are others, or in
            another order.
    """
    first = official.batch(range(min(n, len(official))))
    second = clean.batch(first.ids)
    wrong = int((first.y != second.y).sum())
    if wrong:
        raise UsageError(
            f"{wrong} of {len(first.y)} labels of the official and the clean images differ: the "
            "clean images are not in the order of the original test set (use the original archive)."
        )
    return Pair(first.ids, _pixels(first.x), _pixels(second.x))


def verify_cell(
    images: Pair, corruption: str, severity: int, preset: str, seed: int, frost_folder: Path | None
) -> Comparison:
    """Make our version of ``images.clean`` and compare it with the official one."""
    x = images.clean.astype(np.float32) / np.float32(255)
    ours = corrupt_batch(
        x, images.ids, corruption, severity, preset, seed, frost_folder=frost_folder
    )
    return compare(corruption, severity, images.clean, images.official, _pixels(ours))


def line(result: Comparison, note: str = "") -> str:
    """One row of the printed table."""
    cell = f"{result.corruption:18s} {result.severity} {result.n:6d}"
    kind = "pixels" if result.corruption in DETERMINISTIC else "law"
    damage = f"{result.mse_official:9.1f} {result.mse_ours:9.1f} {result.ks:6.3f}"
    return (
        f"{cell}  {kind:6s} {100 * result.equal:7.2f} {result.max_diff:5d} {result.psnr:6.1f} "
        f"{damage}  {note or result.verdict}"
    )


HEADER = (
    f"{'corruption':18s} s {'n':>6s}  {'by':6s} {'equal%':>7s} {'max':>5s} {'PSNR':>6s} "
    f"{'MSE off.':>9s} {'MSE ours':>9s} {'KS':>6s}  verdict"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m robustbench_snn.corruptions.verify",
        description="Compare our corruptions with the official files: pixel by pixel where nothing "
        "is random, in distribution elsewhere.",
    )
    parser.add_argument("--official", type=Path, required=True, help="folder of official files")
    parser.add_argument("--clean", type=Path, required=True, help="folder of the clean data set")
    parser.add_argument("--dataset", default="cifar10", help=", ".join(FOLDERS))
    parser.add_argument(
        "--corruption", action="append", help="names or groups (default: all there)"
    )
    parser.add_argument("--severity", default="1-5")
    parser.add_argument("--n", type=int, default=500, help="images a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frost-textures", type=Path, help="folder of the official frost images")
    return parser


def run(argv: Sequence[str] | None = None) -> bool:
    """Carry out the command; whether every comparable cell agrees. Raises UsageError."""
    options = _parser().parse_args(argv)
    if options.n < 2:
        raise UsageError(f"--n {options.n}: at least 2 images are needed.")
    there = available(options.dataset, options.official)
    names = resolve(options.corruption) if options.corruption else there
    if not names:
        raise UsageError(f"'{options.official}' holds no official corruption files.")
    severities = parse_severities(options.severity)
    clean = Clean(options.dataset, options.clean)
    preset = "imagenet" if options.dataset == "imagenet" else "cifar"
    print(f"official {options.official}, clean {options.clean} ({clean.revision})")
    print(f"frost: {frost_textures.label(options.frost_textures)}\n{HEADER}")
    agreed = True
    for name in names:
        synthetic = name == "frost" and options.frost_textures is None
        for severity in severities:
            stored = open_official(options.dataset, options.official, name, severity)
            images = pair(stored, clean, options.n)
            result = verify_cell(
                images, name, severity, preset, options.seed, options.frost_textures
            )
            note = "not comparable: synthetic texture" if synthetic else ""
            print(line(result, note), flush=True)
            agreed &= synthetic or result.agrees
    return agreed


@ended_politely
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 agreed, 2 cannot be compared (one sentence on standard error), 3 differs."""
    try:
        agreed = run(argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("all cells agree" if agreed else "some cells differ: see the verdicts")
    return 0 if agreed else 3


if __name__ == "__main__":
    sys.exit(main())
