"""Card of ImageNet-1K (ILSVRC 2012; Russakovsky et al. 2015) and its 1,000 WordNet ids in order.

The class index is the position in this fixed list, never a position among the folders at hand: a
subset of the folders would shift every label behind the first gap.
"""

from __future__ import annotations

import csv
from importlib.resources import files

from robustbench_snn.data.cards import DatasetCard


def _read_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    text = files("robustbench_snn.data").joinpath("imagenet_classes.csv").read_text("utf-8")
    rows = sorted(csv.DictReader(text.splitlines()), key=lambda row: int(row["index"]))
    return tuple(row["synset"] for row in rows), tuple(row["name"] for row in rows)


WORDNET_IDS, CLASS_NAMES = _read_classes()

IMAGENET = DatasetCard(
    name="imagenet",
    num_classes=1000,
    class_names=CLASS_NAMES,
    splits=("train", "test"),
    image_shape=None,
    loader="robustbench_snn.data.imagenet:load",
    hub_id="ILSVRC/imagenet-1k",
    description=(
        "ImageNet-1K; split test is the validation set; Hub, parquet files or val/<wnid>/*.JPEG"
    ),
)
