"""Data sets behind one interface: (ids, x in [0, 1], y) by index."""

from robustbench_snn.data.cards import DatasetCard
from robustbench_snn.data.catalogue import DATASETS, load_dataset, sample_groups

__all__ = ["DATASETS", "DatasetCard", "load_dataset", "sample_groups"]
