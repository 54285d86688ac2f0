"""What is known about a data set before anything is read; importing this needs no NumPy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetCard:
    """One data set of labelled images.

    Attributes:
        name: what ``--dataset`` takes.
        num_classes: number of classes K; labels are 0..K-1.
        class_names: K names in label order.
        splits: names of the splits, the evaluation split named ``test`` among them.
        image_shape: (C, H, W) as stored; None when images differ in size.
        loader: ``"module:function"``, called as (card, split, data_dir, preprocess).
        hub_id: repository on the Hugging Face Hub; None when there is none.
        description: one line for listings.
        groups: ``"module:function"`` from sample ids to integers that are equal where samples show
            the same object, so that their outcomes go together; empty where all are independent.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    loader: str
    hub_id: str | None = None
    description: str = ""
    groups: str = ""
