"""The data sets that can be named on the command line; listing them imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_snn.card import Preprocess
from robustbench_snn.data.cards import DatasetCard
from robustbench_snn.errors import UsageError
from robustbench_snn.registry import Registry, import_target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from robustbench_snn.data.base import ImageDataset

DATASETS: Registry[DatasetCard] = Registry("data set")

DATASETS.add(
    "digit-scenes",
    DatasetCard(
        name="digit-scenes",
        num_classes=10,
        class_names=tuple("0123456789"),
        splits=("train", "test", "holdout"),
        image_shape=(3, 32, 32),
        loader="robustbench_snn.data.digit_scenes:load",
        description="handwritten digits in 32x32 colour scenes with object masks; built in",
        groups="robustbench_snn.data.digit_scenes:scans_of",
    ),
)

DATASETS.add("cifar10", "robustbench_snn.data.cifar_classes:CIFAR10")
DATASETS.add("cifar100", "robustbench_snn.data.cifar_classes:CIFAR100")
DATASETS.add("imagenet", "robustbench_snn.data.imagenet_classes:IMAGENET")


def sample_groups(dataset: str, ids: Sequence[str]) -> NDArray[np.int64] | None:
    """Which samples go together because they show the same object, for honest intervals.

    Args:
        dataset: its name; one that is not registered has independent samples.
        ids: n sample ids.

    Returns:
        int64 [n], equal for samples of one group; None where every sample is its own.
    """
    import numpy as np

    declared = DATASETS.get(dataset).groups if dataset in DATASETS.names() else ""
    if not declared or not len(ids):
        return None
    groups = np.asarray(import_target(declared)(ids), dtype=np.int64)
    return groups if len(np.unique(groups)) < len(groups) else None


def repeated(dataset: str, ids: Sequence[str]) -> str:
    """What a caption says of intervals where samples go together; empty where none do."""
    named = list(dict.fromkeys(ids))
    groups = sample_groups(dataset, named)
    if groups is None:
        return ""
    return f", allowing for {len(named)} samples that show {len(set(groups.tolist()))} objects"


def load_dataset(
    name: str,
    split: str = "test",
    data_dir: Path | None = None,
    preprocess: Preprocess | None = None,
) -> ImageDataset:
    """Open one split of a data set.

    Args:
        name: a name in ``DATASETS``.
        split: one of the card's splits.
        data_dir: folder of local files; None takes the embedded set or the Hub.
        preprocess: the model's resize and crop; None leaves images as stored.

    Raises:
        UsageError: unknown name or split, or nothing readable where it was looked for.
    """
    card = DATASETS.get(name)
    if split not in card.splits:
        raise UsageError(
            f"data set '{name}' has no split '{split}': choose one of {', '.join(card.splits)}."
        )
    dataset: ImageDataset = import_target(card.loader)(card, split, data_dir, preprocess)
    return dataset
