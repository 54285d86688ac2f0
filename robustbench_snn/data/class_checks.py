"""Signs that files hold another data set than the one they are given for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robustbench_snn.data.cards import DatasetCard
from robustbench_snn.errors import UsageError

# Published copies spell a few of 100 names in their own way.
_OTHER_SPELLINGS = 0.05
# Of a set with so many classes, so many images that all lie in its first fifth are of another.
_MANY_CLASSES, _MANY_IMAGES = range(50, 101), 20


def check_class_names(card: DatasetCard, names: Sequence[str] | None, where: object) -> None:
    """Compare the class names that a file states with the card's, in label order.

    Args:
        card: of the data set asked for.
        names: as the file states them; None where it does not.
        where: the file, for the message.

    Raises:
        UsageError: another number of classes, other names, or another order.
    """
    if names is None:
        return
    if len(names) != card.num_classes:
        raise UsageError(
            f"{where} says that it has {len(names)} classes ({', '.join(list(names)[:3])}, …), and "
            f"{card.name} has {card.num_classes}: it is another data set; name that with --dataset."
        )
    if card.num_classes > _MANY_CLASSES[-1]:
        return  # long names, of which every copy keeps another part
    pairs = zip(names, card.class_names, strict=True)
    other = [(i, a, b) for i, (a, b) in enumerate(pairs) if _plain(a) != _plain(b)]
    if len(other) > _OTHER_SPELLINGS * card.num_classes:
        index, found, own = other[0]
        raise UsageError(
            f"{where} calls class {index} '{found}', and in {card.name} it is '{own}' "
            f"({len(other)} classes differ), so its labels would mean nothing: "
            "give the files of this data set."
        )


def check_label_reach(card: DatasetCard, labels: NDArray[np.int64], where: str) -> None:
    """Refuse labels that use the first few of many classes only, as those of a smaller set do.

    Raises:
        UsageError: they do.
    """
    few = card.num_classes // 5
    if card.num_classes in _MANY_CLASSES and len(labels) >= _MANY_IMAGES and labels.max() < few:
        raise UsageError(
            f"{card.name} has {card.num_classes} classes, but the labels of {where} and the others "
            f"only reach {int(labels.max())}: it looks like another data set (cifar10?); name that "
            "with --dataset."
        )


def _plain(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")
