"""ImageNet-1K from the Hub, from parquet files or from one folder per class.

The split called ``test`` here is the labelled validation set, on which all published accuracies
are measured; the labels of ImageNet's own test set are not public.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from robustbench_snn.card import Preprocess
from robustbench_snn.data.cards import DatasetCard
from robustbench_snn.data.class_checks import check_class_names
from robustbench_snn.data.content import check_unchanged, content_sha256, stamp
from robustbench_snn.data.hub import hub_files
from robustbench_snn.data.imagenet_classes import WORDNET_IDS
from robustbench_snn.data.locations import require_folder
from robustbench_snn.data.parquet_rows import ParquetRows, local_parquet
from robustbench_snn.data.stored_images import UNDECODABLE, Rows, StoredImages, corrupt_image
from robustbench_snn.errors import UsageError

_FOLDERS = {"test": ("val", "validation"), "train": ("train",)}
_PREFIXES = {"test": ("validation", "val"), "train": ("train",)}
_SUFFIXES = {".jpeg", ".jpg", ".png"}


class FolderRows:
    """Images in ``<root>/<wnid>/``, sorted by file name across classes; see ``Rows``.

    For the validation set that is its official order, in which any prefix mixes the classes.
    """

    source = "local"

    def __init__(self, root: Path) -> None:
        """List the images; raises UsageError on a folder that is no class or holds no image."""
        index_of = {wnid: index for index, wnid in enumerate(WORDNET_IDS)}
        found: list[tuple[str, str, Path]] = []
        for folder in sorted(p for p in root.iterdir() if p.is_dir()):
            if folder.name.startswith("."):
                continue
            if folder.name not in index_of:
                raise UsageError(
                    f"the folder {folder} is not named after one of the 1,000 ImageNet-1K classes "
                    f"(such as {WORDNET_IDS[0]}): rename it or move it away."
                )
            images = [p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES]
            found += [(path.stem, folder.name, path) for path in images]
        if not found:
            raise UsageError(
                f"{root} holds no images: they must lie in {root.name}/<wnid>/*.JPEG, for example "
                f"{root.name}/{WORDNET_IDS[0]}/."
            )
        found.sort(key=lambda item: item[:2])
        self._root = root
        self._paths = [path for _, _, path in found]
        self._stamps = [stamp(path) for path in self._paths]
        self.labels = np.array([index_of[wnid] for _, wnid, _ in found], dtype=np.int64)
        counts = Counter(stem for stem, _, _ in found)
        self._ids = [s if counts[s] == 1 else f"{wnid}/{s}" for s, wnid, _ in found]

    def fingerprint(self) -> str:
        """Short sha256 over class, name and all bytes of every file."""
        names = "".join(f"{path.parent.name}/{path.name}\n" for path in self._paths)
        content = content_sha256(self._paths)
        return hashlib.sha256(f"{names}{content}".encode()).hexdigest()[:12]

    def name(self, index: int) -> str:
        """Path of the file, for messages."""
        return str(self._paths[index])

    def identity(self, index: int) -> str:
        """File stem, preceded by the class where two files share one."""
        return self._ids[index]

    def pictures(self, indices: Sequence[int]) -> list[Image.Image]:
        """The pictures at ``indices``, decoded; raises UsageError for one that is no image."""
        found = []
        for path, about in ((self._paths[i], self._stamps[i]) for i in indices):
            picture = self._picture(path)
            check_unchanged(path, about)
            found.append(picture)
        return found

    def _picture(self, path: Path) -> Image.Image:
        try:
            with Image.open(path) as picture:
                picture.load()
                return picture
        except UNDECODABLE as error:
            raise corrupt_image(str(path), error) from error


def load(
    card: DatasetCard, split: str, data_dir: Path | None, preprocess: Preprocess | None
) -> StoredImages:
    """One split of ImageNet-1K.

    Args:
        card: ``IMAGENET``.
        split: ``test`` (the validation images) or ``train``.
        data_dir: folder with parquet files or class folders; None asks the Hub.
        preprocess: the model's resize and crop; without it images must share one size.

    Raises:
        UsageError: nothing readable where it was looked for.
    """
    folder, prefix = _FOLDERS[split][0], _PREFIXES[split][0]
    layout = f"{folder}/<wnid>/*.JPEG or {prefix}*.parquet"
    rows: Rows
    if data_dir is None:
        rows = _parquet(card, hub_files(card, split, layout), "hub")
    else:
        rows = _local_rows(card, split, data_dir, layout)
    return StoredImages(card, split, rows, preprocess or Preprocess())


def _parquet(card: DatasetCard, files: Sequence[Path], source: str) -> ParquetRows:
    rows = ParquetRows(files, source, ("label",))
    check_class_names(card, rows.class_names, files[0])
    return rows


def _local_rows(card: DatasetCard, split: str, data_dir: Path, layout: str) -> Rows:
    require_folder(card.name, data_dir, layout)
    for name in _FOLDERS[split]:
        if (data_dir / name).is_dir() and not any((data_dir / name).glob("*.parquet")):
            return FolderRows(data_dir / name)
    files = local_parquet(data_dir, _PREFIXES[split])
    if files:
        return _parquet(card, files, "local")
    if any((data_dir / wnid).is_dir() for wnid in WORDNET_IDS):
        return FolderRows(data_dir)
    raise UsageError(
        f"no {card.name} in {data_dir}: it must hold {layout}; without --data-dir the Hub's "
        f"{card.hub_id} is used."
    )
