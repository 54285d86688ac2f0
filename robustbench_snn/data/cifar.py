"""CIFAR-10 and CIFAR-100 from the Hub, from parquet files or from the original archives."""

from __future__ import annotations

from pathlib import Path

from robustbench_snn.card import Preprocess
from robustbench_snn.data.cards import DatasetCard
from robustbench_snn.data.cifar_archive import ArchiveRows, find_archive
from robustbench_snn.data.class_checks import check_class_names
from robustbench_snn.data.hub import hub_files
from robustbench_snn.data.locations import require_folder
from robustbench_snn.data.parquet_rows import ParquetRows, local_parquet
from robustbench_snn.data.stored_images import StoredImages
from robustbench_snn.errors import UsageError

# CIFAR-100's other label column, coarse_label, groups the classes into 20.
_LABEL_COLUMNS = {"cifar10": ("label",), "cifar100": ("fine_label", "label")}
_LAYOUTS = {
    "cifar10": "{split}*.parquet, cifar-10-batches-py/ or cifar-10-python.tar.gz",
    "cifar100": "{split}*.parquet, cifar-100-python/ or cifar-100-python.tar.gz",
}


def load(
    card: DatasetCard, split: str, data_dir: Path | None, preprocess: Preprocess | None
) -> StoredImages:
    """One split of CIFAR-10 or CIFAR-100, rows in file order.

    Args:
        card: ``CIFAR10`` or ``CIFAR100``.
        split: ``train`` or ``test``.
        data_dir: folder with parquet files or the python archives; None asks the Hub.
        preprocess: the model's resize and crop.

    Raises:
        UsageError: nothing readable where it was looked for.
    """
    columns = _LABEL_COLUMNS[card.name]
    layout = _LAYOUTS[card.name].format(split=split)
    rows: ParquetRows | ArchiveRows
    if data_dir is None:
        rows = ParquetRows(hub_files(card, split, layout), "hub", columns)
    else:
        rows = _local_rows(card, split, data_dir, layout)
    check_class_names(card, rows.class_names, rows.name(0))
    return StoredImages(card, split, rows, preprocess or Preprocess())


def _local_rows(
    card: DatasetCard, split: str, data_dir: Path, layout: str
) -> ParquetRows | ArchiveRows:
    require_folder(card.name, data_dir, layout)
    files = local_parquet(data_dir, (split,))
    if files:
        return ParquetRows(files, "local", _LABEL_COLUMNS[card.name])
    archive = find_archive(card.name, data_dir)
    if archive is None:
        raise UsageError(
            f"no {card.name} in {data_dir}: it must hold {layout}; without --data-dir the Hub's "
            f"{card.hub_id} is used."
        )
    return ArchiveRows(archive, card.name, split)
